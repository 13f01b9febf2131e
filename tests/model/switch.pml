/* The switch between two sides, as migrator/switch/procedure.py and settle.py do it.

   Steps carry the names of the code: an inline `fence_open_side` is fence.open_side, `kill_point(switch_fenced)` is the
   kill point switch.fenced, and stands where the code has it. README.md says what is in here, and what is not.

   Mutants, each of which must be found: POSITION_BEFORE_FENCE, SLOT_AFTER_OPEN, JOURNAL_AFTER_OPEN, NO_DRIVER_NUMBER,
   ANYBODY_MOVES_THE_POSITION. */

#define SHARED 0
#define SERVICE 1
#define SOURCE(epoch) ((epoch + 1) % 2)      /* epoch 1 streams from the shared side, 2 from the service side, ... */

#ifndef WRITES
#define WRITES 2                             /* transactions of applications, one application each */
#endif
#ifndef EPOCHS
#define EPOCHS 3                             /* a cutover and a rollback */
#endif
#ifndef SWITCHES
#define SWITCHES 2                           /* begun, with those that went back */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef LOST_LOCKS
#define LOST_LOCKS 1
#endif
#define LENGTH 6                             /* of a log: writes and fence markers */
#define MARKER 255
#define NOBODY 255

mtype = { none, running, committed };

/* What each side holds. */
bool closed[2];                              /* the write lock's trigger is enabled */
bool table_lock[2];                          /* SHARE ROW EXCLUSIVE is held by a fence */
byte writers[2];                             /* transactions that hold ROW EXCLUSIVE */
byte admitted[2];                            /* those of them that the write lock has let pass */
byte rows[2];                                /* visible writes, one bit each */
byte log[12];                                /* LENGTH entries a side, in commit order */
byte logged[2];
byte side_driver[2];                         /* carveout.route.driver */

/* Streams, by epoch: the slot is on the open side, the position on the closed one. */
bool slot[5];
byte slot_from[5];
bool has_position[5];
byte position[5];

/* The control rows in the shared database. */
mtype outcome = none;                        /* of the switch that is neither finished nor undone */
byte epoch = 1;                              /* its parity is the open side */
byte control_driver;                         /* carveout.migration.driver */

byte lock_holder = NOBODY;                   /* the driver's advisory lock: it ends with its session */
byte acknowledged;                           /* writes that an application was told are committed */
byte begun, crashes, lost_locks;

#define LOG(side, at) log[(side) * LENGTH + (at)]
#define OPEN(side) (!closed[side])

/* One open side: nowhere is a write admitted while the other side would admit one as well.
   Nothing lost: what was acknowledged is there as soon as a side is open. */
#define one_open_side (!(OPEN(SHARED) && OPEN(SERVICE)) && !(admitted[SHARED] && admitted[SERVICE]))
#define nothing_lost ((closed[SHARED] || (acknowledged & ~rows[SHARED]) == 0) \
                   && (closed[SERVICE] || (acknowledged & ~rows[SERVICE]) == 0))
/* Asserted wherever something could break it: where a side opens, a write is admitted, or acknowledged. */
#define safe assert(one_open_side); assert(nothing_lost)

/* An application's transaction: it may be refused, and then it tries again, anywhere. The commit record is in the log
   before the transaction is visible and lets go of its locks. */
proctype Application(byte write) {
    byte side;
    do
    :: atomic { if :: side = SHARED :: side = SERVICE fi;
                !table_lock[side] -> writers[side]++ }
       if
       :: atomic { closed[side] -> writers[side]-- }
       :: atomic { else -> admitted[side]++; safe }
          atomic { LOG(side, logged[side]) = write; logged[side]++ }
          atomic { rows[side] = rows[side] | (1 << write); writers[side]--; admitted[side]--;
                   acknowledged = acknowledged | (1 << write); safe; break }
       fi
    od
}

/* The worker: what it is told may be old, where it stands it reads with every batch. A server gives a slot's client
   nothing from before the slot, whatever position it asks for. */
#define NEXT_ENTRY (position[mine] < slot_from[mine] -> slot_from[mine] : position[mine])
proctype Worker() {
    byte mine, at;
end:
    do
    :: atomic { mine != epoch -> mine = epoch }
    :: atomic { mine && slot[mine] && has_position[mine] && NEXT_ENTRY < logged[SOURCE(mine)] ->
                at = NEXT_ENTRY;
                if
                :: LOG(SOURCE(mine), at) == MARKER
                :: else -> rows[1 - SOURCE(mine)] = rows[1 - SOURCE(mine)] | (1 << LOG(SOURCE(mine), at))
                fi;
                position[mine] = at + 1; at = 0 }
    :: atomic { mine && crashes < CRASHES -> crashes++; mine = 0 }
    od
}

/* Every statement that changes a side's write locks first puts the driver's number into that side's route, and fails
   where a newer one is there. */
#ifdef NO_DRIVER_NUMBER
#define IS_MINE(side) true
#define IS_NEWEST true
#else
#define IS_MINE(side) (side_driver[side] <= number)
#define IS_NEWEST (control_driver == number)
#endif
#define take_side(side) side_driver[side] = number

#define kill_point(name) name: if :: atomic { crashes < CRASHES -> crashes++; goto crashed } :: skip fi
/* A kill point where nothing of the model has changed since the one before it. */
#define same_here(name) name: skip

inline fence_fence() {
#ifdef POSITION_BEFORE_FENCE
    awaited = logged[from];
#endif
    if
    :: atomic { !table_lock[from] && !IS_MINE(from) -> goto settle }
    :: atomic { IS_MINE(from) && !table_lock[from] && writers[from] == 0 -> table_lock[from] = true; take_side(from) }
    :: goto settle                           /* writers did not end in time */
    fi;
    atomic {
        LOG(from, logged[from]) = MARKER; logged[from]++;
#ifndef POSITION_BEFORE_FENCE
        awaited = logged[from]
#endif
    }
    atomic { closed[from] = true; table_lock[from] = false }
}

inline fence_open_side(side) {
    if
    :: atomic { !table_lock[side] && IS_MINE(side) -> take_side(side); closed[side] = false; safe }
    :: atomic { !table_lock[side] && !IS_MINE(side) -> goto superseded }
    fi
}

inline fence_close_side(side) {              /* waits for writers as the fence does */
    if
    :: atomic { !table_lock[side] && IS_MINE(side) && (closed[side] || writers[side] == 0) -> take_side(side); closed[side] = true }
    :: atomic { !table_lock[side] && !IS_MINE(side) -> goto superseded }
    fi
}

inline wayback_make() {
    if
    :: atomic { !slot[next] && writers[to] == 0 -> slot[next] = true; slot_from[next] = logged[to] }
    :: atomic { slot[next] -> goto settle }
    fi
}

inline wayback_mark_opening() {
    atomic {
        !table_lock[from];
#ifndef ANYBODY_MOVES_THE_POSITION
        if :: !IS_MINE(from) -> goto settle :: else fi;
        take_side(from);
#endif
        has_position[next] = true; position[next] = logged[to]
    }
}

inline wayback_drop() {
    atomic {
        if :: !IS_NEWEST -> goto superseded :: else fi;
        slot[next] = false; has_position[next] = false; position[next] = 0; slot_from[next] = 0
    }
}

inline switches_commit() {
    if
    :: atomic { outcome == running && epoch + 1 == next && IS_NEWEST -> outcome = committed; epoch = next }
    :: atomic { else -> goto settle }        /* another driver has ended it */
    fi
}

/* A driver: cutover, rollback and resume. It lets go of its lock at its end; or the lock's session is lost, and it goes on
   without knowing that. */
proctype Driver(byte me) {
    byte number, from, to, next, awaited;
again:
    number = 0; from = 0; to = 0; next = 0; awaited = 0;
    if
    :: atomic { lock_holder == NOBODY && (outcome != none || (begun < SWITCHES && epoch < EPOCHS)) -> lock_holder = me }
    :: atomic { lock_holder == NOBODY && outcome == none && (begun == SWITCHES || epoch == EPOCHS) -> goto done }
    fi;
    atomic { control_driver++; number = control_driver }
    if
    :: atomic { lost_locks < LOST_LOCKS -> lost_locks++; lock_holder = NOBODY }
    :: skip
    fi;
    if
    :: atomic { !IS_NEWEST -> goto ended }
    :: atomic { IS_NEWEST && outcome == committed -> next = epoch; to = SOURCE(epoch); from = 1 - to; goto forward }
    :: atomic { IS_NEWEST && outcome == running -> next = epoch + 1; from = SOURCE(epoch); to = 1 - from; goto undo }
    :: atomic { IS_NEWEST && outcome == none && begun < SWITCHES && epoch < EPOCHS ->
                begun++; outcome = running; next = epoch + 1; from = SOURCE(epoch); to = 1 - from }
    :: atomic { IS_NEWEST && outcome == none && !(begun < SWITCHES && epoch < EPOCHS) -> goto ended }
    fi;
    kill_point(switch_started);
#ifndef SLOT_AFTER_OPEN
    wayback_make();
#endif
    kill_point(switch_way_back_prepared);
    same_here(switch_traffic_noted);
    same_here(switch_gate_closed);
    fence_fence();
    kill_point(switch_fenced);
    if                                       /* _drain */
    :: position[epoch] >= awaited
    :: goto settle                           /* past the deadline */
    fi;
    kill_point(switch_drained);
    same_here(switch_verified);
    same_here(switch_sequences_set);
#ifndef SLOT_AFTER_OPEN
    wayback_mark_opening();
#endif
    kill_point(switch_opening_marked);
    same_here(switch_repointed);
#ifdef JOURNAL_AFTER_OPEN
    fence_open_side(to);
    kill_point(switch_opened);
#endif
    switches_commit();
    kill_point(switch_committed);
forward:
    fence_close_side(from);
    kill_point(switch_routed);
#ifndef JOURNAL_AFTER_OPEN
    fence_open_side(to);
    kill_point(switch_opened);
#endif
#ifdef SLOT_AFTER_OPEN
    atomic { slot[next] = true; slot_from[next] = logged[to]; has_position[next] = true; position[next] = logged[to] }
#endif
    same_here(switch_released);
    slot[next - 1] = false;                  /* wayback.drop_old */
    kill_point(switch_finished);
    atomic { if :: outcome == committed && epoch == next && IS_NEWEST -> outcome = none :: else fi; goto ended }
settle:                                      /* the journal, not our memory, says which way to go */
    if
    :: atomic { outcome == running && epoch + 1 == next -> goto undo }
    :: atomic { outcome == committed && epoch == next -> goto forward }
    :: atomic { else -> goto ended }
    fi;
undo:
    fence_open_side(from);
    fence_close_side(to);
    wayback_drop();
    atomic { if :: outcome == running && epoch + 1 == next && IS_NEWEST -> outcome = none :: else fi; goto ended }
superseded:
crashed:
ended:
    atomic { if :: lock_holder == me -> lock_holder = NOBODY :: else fi; goto again }
done:
    skip
}

/* When nothing moves any more, exactly the side that the control row names is open, and both sides hold all writes. */
proctype End() {
    timeout ->
    assert(outcome == none);
    assert(OPEN(SOURCE(epoch)) && closed[1 - SOURCE(epoch)]);
    assert(acknowledged == (1 << WRITES) - 1);
    assert(rows[SHARED] == acknowledged && rows[SERVICE] == acknowledged)
}

init {
    byte write;
    atomic {
        closed[SERVICE] = true;
        slot[1] = true; has_position[1] = true;
        do :: write < WRITES -> run Application(write); write++ :: else -> break od;
        run Worker(); run Driver(0); run Driver(1); run End()
    }
}
