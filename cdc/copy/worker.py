"""One process of the copy: imports the snapshot, then copies the parts that its parent hands it.

It ends with its parent, however that one ends: the kernel kills it (Linux), or it finds the pipe closed. Any
failure ends the process, and so rolls back what it had open.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from cdc.children import end_with
from cdc.copy import failures, ledger, shape, target
from cdc.copy.model import Moved, Part, Strategy
from cdc.copy.relay import TICK_S, RelayError, relay
from cdc.copy.shape import Shape
from contexts import sqlfiles
from contexts.databases import Connection, Database
from contexts.errors import CarveoutError
from contexts.killpoints import kill_point
from contexts.model import TableName

#: How long a process waits for a schema change of the open side to end; nobody waits for the copy's own lock.
LOCK_TIMEOUT = "5s"
_FAILED = (TransactionStatus.INERROR, TransactionStatus.UNKNOWN)
_SQL = sqlfiles.load("cdc.copy", "worker.sql")


@dataclass(frozen=True, slots=True)
class Job:
    """What a process needs to know; it reaches the process through a pipe, as the URLs hold passwords."""

    open_: Database
    closed: Database
    context: str
    cycle: int
    #: None where nothing is read from the open side.
    snapshot: str | None
    tables: tuple[TableName, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """Copy one part."""

    part: Part
    shape: Shape

    def __str__(self) -> str:
        return str(self.part)


@dataclass(frozen=True, slots=True)
class Again:
    """Copy the rows again whose keys are stored in ``carveout.copy_key``."""

    shape: Shape

    def __str__(self) -> str:
        return f"{self.shape.table}, single rows"


@dataclass(frozen=True, slots=True)
class BuildKey:
    """Build the primary key that was dropped for the load."""

    table: TableName

    def __str__(self) -> str:
        return f"{self.table}, primary key"


@dataclass(frozen=True, slots=True)
class LetGo:
    """Nothing more is read: end the transaction that holds the snapshot."""

    def __str__(self) -> str:
        return "the end of the snapshot"


Task = Load | Again | BuildKey | LetGo


@dataclass(frozen=True, slots=True)
class Ready:
    """The process holds the snapshot and its locks."""


@dataclass(frozen=True, slots=True)
class Carried:
    """So many bytes of the running task so far."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """The task is committed."""

    moved: Moved


@dataclass(frozen=True, slots=True)
class Failed:
    """The process ends with this."""

    error: CarveoutError


Answer = Ready | Carried | Done | Failed


def main(job: Job, pipe: Pipe, parent: int) -> None:
    """The process's whole life."""
    end_with(parent)
    try:
        _serve(job, pipe)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending as it is


def _serve(job: Job, pipe: Pipe) -> None:
    try:
        with _Worker(job, pipe) as worker:
            pipe.send(Ready())
            while True:
                pipe.send(Done(worker.do(pipe.recv())))
    except CarveoutError as error:
        pipe.send(Failed(error))


class _Worker:
    def __init__(self, job: Job, pipe: Pipe) -> None:
        self._job, self._pipe = job, pipe
        self._last_tick = 0.0
        self._source: Connection | None = None

    def __enter__(self) -> _Worker:
        job = self._job
        with self._naming("the connections"):
            self._target = _connect(job.closed, job.context, session_replication_role="replica")
            if job.snapshot is not None:
                # No parallel plans: copy_workers says how many processors of the open side are used.
                self._source = _connect(
                    job.open_, job.context, lock_timeout=LOCK_TIMEOUT, max_parallel_workers_per_gather="0"
                )
                _import_snapshot(self._source, job.snapshot, job.tables)
        return self

    def __exit__(self, *_: object) -> None:
        for conn in (self._source, self._target):
            if conn is not None:
                conn.close()

    def do(self, task: Task) -> Moved:
        with self._naming(str(task)):
            match task:
                case Load(part, how):
                    return self._load(part, how)
                case Again(how):
                    return self._again(how)
                case BuildKey(table):
                    target.build_key(self._target, self._job.context, table)
                    return Moved()
                case LetGo():
                    return self._let_go()

    def _let_go(self) -> Moved:
        if self._source is not None:
            self._source.close()
            self._source = None
        return Moved()

    def _load(self, part: Part, how: Shape) -> Moved:
        condition = shape.within(part, how.key)
        self._target.execute("BEGIN")
        if part.strategy is Strategy.KEY:
            self._target.execute(shape.delete(how, condition))
        moved = self._relay(how, condition, by_index=part.strategy is Strategy.KEY and condition is not None)
        kill_point("copy.part_loaded")
        ledger.finish(self._target, self._job.context, self._job.cycle, part, moved)
        self._target.execute("COMMIT")
        kill_point("copy.part_committed")
        return moved

    def _again(self, how: Shape) -> Moved:
        total = Moved()
        while True:
            self._target.execute("BEGIN")
            keys = ledger.take_keys(self._target, self._job.context, how.table)
            if keys:
                condition = shape.any_of(how.key, keys)
                self._target.execute(shape.delete(how, condition))
                total += self._relay(how, condition, by_index=True)
                ledger.forget_keys(self._target, self._job.context, how.table, keys)
            self._target.execute("COMMIT")
            if not keys:
                return total

    def _relay(self, how: Shape, condition: sql.Composable | None, *, by_index: bool) -> Moved:
        assert self._source is not None
        # Never analysed tables would be read whole for every range.
        self._source.execute("SET LOCAL enable_seqscan = " + ("off" if by_index else "on"))
        copy_out = shape.copy_out(how, condition).as_bytes(self._source)
        copy_in = shape.copy_in(how).as_bytes(self._target)
        return relay(self._source.pgconn, self._target.pgconn, copy_out, copy_in, self._tick)

    def _tick(self, carried: int) -> None:
        """Tell the parent how far the task is; where it is gone, the pipe says so, and this process ends."""
        now = time.monotonic()
        if now - self._last_tick >= TICK_S:
            self._last_tick = now
            self._pipe.send(Carried(carried))

    @contextlib.contextmanager
    def _naming(self, what: str) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            side = self._job.open_ if self._source_failed() else self._job.closed
            raise failures.named(error, what, failures.place(side)) from error
        except RelayError as error:
            raise failures.CopyFailed(f"{what}: {error}", unchanged=failures.UNCHANGED) from error

    def _source_failed(self) -> bool:
        """Whether the error at hand came from the open side: its transaction is only read from, and never ends."""
        return self._source is not None and self._source.info.transaction_status in _FAILED


def _connect(database: Database, context: str, **settings: str) -> Connection:
    """A session of the copy that no time limit of a role or a database ends."""
    conn = database.connect(ledger.session_name(context), autocommit=True, idle_session_timeout="0", **settings)
    if conn.info.server_version >= 170000:
        conn.execute("SET transaction_timeout = 0")
    return conn


def _import_snapshot(source: Connection, snapshot: str, tables: tuple[TableName, ...]) -> None:
    """Begin the one transaction in which this process reads, and keep tables from being rewritten under it.

    TRUNCATE and rewriting forms of ALTER TABLE are not seen by older snapshots as they should be: the table looks
    empty, and after VACUUM FULL a ctid means another row. So every process locks all tables before any copies one.
    """
    source.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    source.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
    listed = sql.SQL(", ").join(sql.SQL("ONLY {}").format(sql.Identifier(*table)) for table in tables)
    source.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(listed))
    names = ([table.schema for table in tables], [table.name for table in tables])
    if rewritten := source.execute(_SQL["rewritten"], names).fetchall():
        raise failures.SnapshotLost(
            f"rewritten or truncated after the snapshot: {', '.join(str(TableName(*row)) for row in rewritten)}",
            unchanged=failures.UNCHANGED,
            next_step="nothing: the next cycle takes a new snapshot",
        )
