"""Named points at which the tests kill the process, to prove that it goes on from there.

A point does nothing unless ``CARVEOUT_KILL_AT`` names it, as ``name`` or ``name:nth``; then the process kills
itself with SIGKILL, as a power cut would. ``CARVEOUT_FREEZE_AT`` stops it with SIGSTOP there, with all that it holds,
until a test lets it go on. Every name is listed in :data:`POINTS`, so a test can walk them all.
"""

from __future__ import annotations

import os
import signal
import threading

POINTS: dict[str, str] = {
    "copy.slot_created": "the slot exists, its position is not stored",
    "copy.planned": "the parts are stored, none is copied",
    "copy.part_loaded": "a part's rows are written, not committed",
    "copy.part_committed": "a part is committed",
    "copy.cycle_ended": "all parts are done, the state is still copying",
    "copy.indexes_built": "secondary indexes are built, the state is still copying",
    "apply.rows_written": "a batch's rows are written, not its position",
    "apply.before_commit": "rows and position are written, not committed",
    "apply.after_commit": "a batch is committed, the slot not acknowledged",
    "apply.spooled": "a large transaction is spooled, not applied",
    "outbox.published": "the sink has a batch of events, the queue still holds them",
    "verify.barrier_reached": "both snapshots are held, nothing is compared",
    "verify.segment_done": "a segment's result is stored",
    "verify.before_result": "all is compared, the result is not stored",
    "repair.chosen": "the keys of a repair are stored, none is done",
    "repair.begun": "a batch's log says begun, its rows are not written",
    "repair.rows_written": "a batch's rows are written, not committed",
    "repair.committed": "a batch's rows are committed, its log says begun",
    "repair.batch_done": "a batch is committed and its log says done",
    "lockstep.announced": "the service side knows the marker of lockstep, which is not written",
    "lockstep.entered": "the shared side is in lockstep, the stream has not brought the marker",
    "lockstep.left": "the shared side has left lockstep, the gate is still closed",
    "shim.collected": "an application has collected what its transaction wrote",
    "shim.shipped": "all but the last part of it is written on the service side, nothing is prepared",
    "shim.prepared": "they are prepared",
    "shim.decided": "the shared side has committed, the service side is prepared",
    "shim.settled": "both sides have committed, the application does not know",
    "cut.decision_written": "one part of a transaction over several places has its witness, it is not prepared",
    "cut.prepared": "one part is prepared, perhaps not the next one; the shared side has not committed",
    "inbox.handled": "a message is handled and noted, not committed",
    "inbox.committed": "a message is handled, its sender does not know",
    "tcc.begun": "the log has the transaction, nothing is tried",
    "tcc.tried": "a branch is tried",
    "tcc.decided": "the log says confirming, no branch is confirmed",
    "tcc.called": "a branch is confirmed or cancelled, the log does not know",
    "switch.started": "state is switching, nothing else is done",
    "switch.way_back_prepared": "the reverse slot exists",
    "switch.traffic_noted": "the journal says what will be held, nothing is",
    "switch.gate_closed": "gate, PgBouncers and hooks hold new transactions",
    "switch.fenced": "the write locks of the open side are closed and the marker is written",
    "switch.drained": "the marker was applied",
    "switch.verified": "the last check passed",
    "switch.sequences_set": "the sequences of the other side are set",
    "switch.opening_marked": "the reverse stream's position is stored",
    "switch.repointed": "what waits is led to the other side, whose write locks are still closed",
    "switch.committed": "the journal says committed, both routes are the old ones",
    "switch.routed": "the old side's route names the new side, whose write locks are still closed",
    "switch.opened": "the new side is open, the traffic still held",
    "switch.released": "the traffic goes to the new side",
    "switch.finished": "all is done but the last state change",
    "traffic.one_paused": "one PgBouncer holds its clients, perhaps not the next one",
    "traffic.file_written": "a PgBouncer's file names the other side, it has not read it",
    "traffic.reloaded": "a PgBouncer leads to the other side, perhaps not the next one",
    "traffic.one_resumed": "past the point of no return one entry goes on, the next one still waits",
    "complete.started": "completing, nothing dropped",
    "complete.stream_dropped": "the reverse stream is gone",
    "foreign.made": "foreign tables stand in place of the closed tables, not committed",
}
_ARMED = {"CARVEOUT_KILL_AT": signal.SIGKILL, "CARVEOUT_FREEZE_AT": signal.SIGSTOP}
_seen: dict[str, int] = {}


_asked: list[tuple[str, signal.Signals]] = []


def read_environment() -> None:
    """See what this process is asked for; once when it starts, again where a test changes its environment."""
    _asked[:] = [(os.environ[variable], number) for variable, number in _ARMED.items() if os.environ.get(variable)]


def kill_point(name: str) -> None:
    """Die or freeze here, where a test asked for it; otherwise cost nothing worth measuring."""
    for armed, number in _asked:
        _strike(name, armed, number)


def _strike(name: str, armed: str, number: signal.Signals) -> None:
    assert name in POINTS, f"{name} is not in POINTS"
    wanted, _, nth = armed.partition(":")
    if wanted == name:
        _seen[name] = _seen.get(name, 0) + 1
        if _seen[name] == int(nth or 1):
            # To this thread: another one that got it would let this one run a moment longer.
            signal.pthread_kill(threading.get_ident(), number)


read_environment()
