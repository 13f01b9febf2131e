"""One cycle of the copy: as many parts under one snapshot as its age allows."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import psycopg

from cdc.copy import failures, ledger, shape, target
from cdc.copy.model import CopyControl, Coverage, CycleResult, Moved, Part, Strategy
from cdc.copy.pool import Hold, Pool
from cdc.copy.progress import Tracker
from cdc.copy.schedule import Schedule
from cdc.copy.shape import Shape
from cdc.copy.worker import LOCK_TIMEOUT, Again, BuildKey, Job, Load, Task
from contexts.catalog import read_tables
from contexts.databases import Connection, Database
from contexts.errors import SchemaMismatch
from contexts.killpoints import kill_point
from contexts.model import Context, TableName


def recover(open_: Database, closed: Database, context: Context, control: CopyControl) -> bool:
    """Make an end of whatever an earlier worker left: call it when a worker starts, before anything is applied.

    Unfinished parts are taken away from processes that may still live, and primary keys that were dropped for a
    load that is complete are built. False where ``control`` said to stop before that was done.
    """
    with _cycle(open_, closed, context, control) as cycle:
        return cycle.build_keys()


def run_cycle(
    open_: Database, closed: Database, context: Context, *, snapshot: str, deadline_s: float, control: CopyControl
) -> CycleResult:
    """Copy under ``snapshot``, exported by the open side, at which the stream of the closed side must stand.

    Nothing may be applied to the closed side meanwhile. Returns when everything is copied, when no further part
    can be begun within ``deadline_s`` (from now), or soon after ``control`` said to stop. The ledger is true at any
    time; after an exception the next cycle goes on from it.

    :raises SchemaMismatch: a table of the open side does not fit its counterpart.
    :raises SnapshotLost: the snapshot is gone, or a table was rewritten after it (transient).
    :raises WorkerDied: a process was killed (transient).
    :raises CopyFailed: a server refused, with the table, the part and its reason.
    :raises DatabaseUnreachable: a connection broke (transient).
    """
    with _cycle(open_, closed, context, control) as cycle:
        finished = cycle.build_keys() and cycle.load(snapshot, deadline_s) and cycle.build_keys()
        result = cycle.result(finished)
    kill_point("copy.cycle_ended")
    return result


@contextlib.contextmanager
def _cycle(open_: Database, closed: Database, context: Context, control: CopyControl) -> Iterator[_Cycle]:
    """A cycle from its own fence to the one that ends it."""
    # In the role of a replica the write locks of the closed side let the copy empty its tables.
    with (
        failures.naming("the copy's ledger", failures.place(closed)),
        closed.connect("copy control", session_replication_role="replica") as conn,
    ):
        try:
            yield _Cycle(conn, open_, closed, context, control)
        finally:
            # What a process still commits after its end belongs to no cycle any more.
            with contextlib.suppress(psycopg.OperationalError):
                ledger.fence(conn, context.name)


class _Cycle:
    def __init__(
        self, conn: Connection, open_: Database, closed: Database, context: Context, control: CopyControl
    ) -> None:
        self._conn, self._open, self._closed, self._context, self._control = conn, open_, closed, context, control
        self._started = time.monotonic()
        self._number = ledger.fence(conn, context.name)
        self._parts = ledger.read(conn, context.name)
        self._tracker = Tracker(self._parts)

    def result(self, finished: bool) -> CycleResult:
        """What was done so far."""
        covered = ledger.coverage(self._conn, self._context.name).values()
        whole = finished and all(coverage is Coverage.FULL for coverage in covered)
        moved = self._tracker.moved
        return CycleResult(self._number, whole, self._tracker.parts_moved, moved.rows, moved.bytes)

    def build_keys(self) -> bool:
        """Build the primary keys of complete tables that lack theirs; False where the control said to stop."""
        keys = target.dropped_keys(self._conn, self._context.name)
        if not keys:
            return not self._control.should_stop()
        with self._pool(None, (), len(keys)) as pool:
            return self._build(pool, self._step(pool), keys)

    def load(self, snapshot: str, deadline_s: float) -> bool:
        """Copy single rows, then parts, then build the keys of what is complete; False where the control said stop."""
        parts = [part for part in self._parts if not part.done]
        self._empty(part for part in parts if part.strategy is Strategy.CTID)
        keyed = ledger.keyed_tables(self._conn, self._context.name)
        shapes = self._shapes({part.table for part in parts}.union(keyed))
        if not shapes:
            return True
        with self._pool(snapshot, shapes, len(parts) + len(keyed)) as pool:
            step = self._step(pool)
            if not pool.wait_ready(step):
                return False
            self._control.snapshot_imported()
            # First all single rows: a part that is copied at the same time may hold one of them, too.
            singles = _supply(Again(shapes[table]) for table in keyed)
            return (
                pool.run(singles, self._tracker.landed, step)
                and self._load(pool, step, Schedule(parts, deadline_s), shapes)
                # The same processes build the keys: to start others takes longer than a small index.
                and pool.let_go(step)
                and self._build(pool, step, target.dropped_keys(self._conn, self._context.name))
            )

    def _build(self, pool: Pool, step: Callable[[], bool], keys: Iterable[TableName]) -> bool:
        return pool.run(_supply(map(BuildKey, keys)), self._tracker.landed, step)

    def _load(self, pool: Pool, step: Callable[[], bool], schedule: Schedule, shapes: dict[TableName, Shape]) -> bool:
        def supply() -> Task | Hold | None:
            if self._control.is_paused() and not schedule.is_late(self._age_s()):
                return Hold.HOLD
            part = schedule.next(self._age_s())
            return None if part is None else Load(part, shapes[part.table])

        def on_done(task: Task, moved: Moved) -> None:
            self._tracker.landed(task, moved)
            if isinstance(task, Load):
                schedule.done(task.part)

        return pool.run(supply, on_done, step)

    def _step(self, pool: Pool) -> Callable[[], bool]:
        """Tells the progress, and whether to go on."""

        def step() -> bool:
            paused = self._control.is_paused()
            self._control.progress(self._tracker.progress(pool.running(), self._age_s(), paused))
            return not self._control.should_stop()

        return step

    def _age_s(self) -> float:
        return time.monotonic() - self._started

    def _empty(self, parts: Iterable[Part]) -> None:
        sizes: dict[TableName, int] = {}
        for part in parts:
            sizes[part.table] = sizes.get(part.table, 0) + part.estimated_bytes
        large = frozenset(table for table, size in sizes.items() if size >= target.MIN_BYTES_WITHOUT_KEY)
        target.empty(self._conn, self._context.name, sizes, large)

    def _shapes(self, tables: set[TableName]) -> dict[TableName, Shape]:
        with (
            failures.naming("reading the tables' columns", failures.place(self._open)),
            self._open.connect("copy control", lock_timeout=LOCK_TIMEOUT) as conn,
        ):
            sources = read_tables(conn, tables)
        targets = read_tables(self._conn, tables)
        if gone := sorted(str(table) for table in tables - sources.keys()):
            raise SchemaMismatch(
                f"planned, but gone on the open side: {', '.join(gone)}",
                unchanged="no row was copied",
                next_step="drop it on the closed side too, then carveout resume",
            )
        return {table: shape.match(sources[table], targets.get(table)) for table in tables}

    def _pool(self, snapshot: str | None, tables: Iterable[TableName], tasks: int) -> Pool:
        job = Job(self._open, self._closed, self._context.name, self._number, snapshot, tuple(sorted(tables)))
        return Pool(job, min(tasks, self._context.options.copy_workers))


def _supply(tasks: Iterable[Task]) -> Callable[[], Task | None]:
    waiting = deque(tasks)
    return lambda: waiting.popleft() if waiting else None
