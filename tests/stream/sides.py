"""Two databases with the same tables, and a worker between them that can be stopped and killed at will."""

from __future__ import annotations

import queue
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, sql

from cdc import state
from cdc.apply import Applier, Observer, SourceTypes
from cdc.apply.watch import Interest, Passed
from cdc.events import Event
from cdc.lsn import parse_lsn
from cdc.names import publication_name, slot_name
from cdc.source import start as starting
from cdc.source.base import Source
from cdc.source.embedded import EmbeddedSource
from cdc.source.failures import SlotActive
from cdc.source.slots import create_publication, drop_slot, export_slot
from cdc.state import position
from cdc.state.position import Position, StreamId
from cdc.worker.follow import follow
from cdc.worker.signals import BarrierSnapshots, NoBarrier, Signals
from cdc.worker.stream import Stream
from contexts.databases import Connection, Database, Databases
from contexts.errors import DatabaseUnreachable, SchemaMismatch
from contexts.model import Options, TableName
from contexts.outbox import Outbox
from tests.stream.shapes import SCHEMA, SHAPES, TYPES_SQL
from tests.stream.statements import Block, Transaction
from tests.waiting import PATIENCE_S, wait_until

CONTEXT = "h"
OUTBOX = Outbox(
    table=TableName(SCHEMA, "told"),
    id="n",
    aggregate_type="topic",
    aggregate_id="key",
    type="",
    topic="{aggregate_type}",
)


class Killed(Exception):
    """The worker was killed here."""


@dataclass(frozen=True)
class Settings:
    """How a worker is started."""

    batch_rows: int = 50_000
    batch_mb: float = 16.0
    batch_age_ms: int = 100
    spool_bytes: int = 1_000_000
    queue_bytes: int = 16_000_000
    #: Whether the server never hears what is durable.
    is_deaf: bool = False
    #: Whether it is a backlog that the stream begins with: large transactions are applied while they are received.
    is_far: bool = False
    #: Whether somebody looks at every change.
    is_watched: bool = False
    #: Tables whose rows of another type are read as the closed side's.
    converted: tuple[TableName, ...] = ()


class MortalSource:
    """A source that ends its worker after some polls, or keeps acknowledgements to itself."""

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source, self._is_deaf = source, settings.is_deaf
        self.polls_left: int | None = None

    def poll(self, timeout_s: float) -> Event | None:
        if self.polls_left is not None:
            self.polls_left -= 1
            if self.polls_left < 0:
                raise Killed("poll")
        return self._source.poll(timeout_s)

    def acknowledge(self, end_lsn: int) -> None:
        if not self._is_deaf:
            self._source.acknowledge(end_lsn)

    def request_idle(self) -> None:
        self._source.request_idle()

    def close(self) -> None:
        self._source.close()


class Looker:
    """An observer that wants to know all there is."""

    def opened(self, conn: Connection, *, in_lockstep: bool) -> None:
        pass

    def interest(self, table: TableName) -> Interest:
        return Interest(whole=True)

    def see(self, passed: Passed) -> None:
        pass

    def before_write(self, conn: Connection) -> None:
        pass

    def before_commit(self, conn: Connection) -> None:
        pass

    def committed(self) -> None:
        pass

    def close(self) -> None:
        pass


class Barrier:
    """A request that keeps the snapshots until it is released."""

    hold_s = 0.0
    wants_recent_keys = False

    def __init__(self) -> None:
        self.answer: queue.Queue[BarrierSnapshots | str] = queue.Queue()
        self.released = threading.Event()

    def reached(self, snapshots: BarrierSnapshots) -> bool:
        self.answer.put(snapshots)
        return True

    def failed(self, reason: str, why: NoBarrier = NoBarrier.FAILED) -> None:
        self.answer.put(reason)

    def is_released(self) -> bool:
        return self.released.is_set()


class Worker:
    """What a worker process holds: one source, one applier, one stream."""

    def __init__(self, both: Databases, stream: StreamId, settings: Settings, spool: Path) -> None:
        self.signals = Signals()
        options = Options(
            batch_rows=settings.batch_rows, batch_mb=settings.batch_mb, batch_age_ms=settings.batch_age_ms
        )
        tables = [TableName(SCHEMA, shape.name) for shape in SHAPES]
        observers: list[Observer] = [Looker()] if settings.is_watched else []
        self.applier = Applier(
            both.service,
            stream,
            tables,
            options,
            owner=uuid.uuid4(),
            source=SourceTypes(both.shared),
            converted=settings.converted,
            observers=observers,
            outboxes=[OUTBOX],
        )
        try:
            self.source = MortalSource(_open_source(both.shared, self.applier.position, settings, spool), settings)
        except BaseException:
            self.applier.close()
            raise
        self.stream = Stream(
            self.source, self.applier, context=CONTEXT, open_=both.shared, closed=both.service, options=options,
            signals=self.signals,
        )  # fmt: skip

    def close(self) -> None:
        self.applier.close()
        self.source.close()


def _open_source(database: Database, at: Position, settings: Settings, spool: Path) -> EmbeddedSource:
    found: list[EmbeddedSource] = []

    def opened() -> bool:
        # The walsender of the worker before ends a moment after it.
        with suppress(SlotActive), pytest.MonkeyPatch.context() as patch:
            if settings.is_far:
                patch.setattr(starting, "_FAR_BYTES", -(1 << 62))
            found.append(
                EmbeddedSource(
                    database, publication_name(CONTEXT), at, spool_dir=spool, memory_bytes=settings.spool_bytes,
                    queue_bytes=settings.queue_bytes,
                )
            )  # fmt: skip
        return bool(found)

    wait_until(opened)
    return found[0]


@dataclass
class Sides:
    """Both sides, the connections of the application, and at most one worker."""

    both: Databases
    spool: Path
    #: What happened, to know that a run was no empty one.
    seen: Counter[str] = field(default_factory=Counter)
    worker: Worker | None = None
    settings: Settings = Settings()
    #: Revisions that the closed side has not had yet, in order.
    revisions: list[str] = field(default_factory=list)
    #: Name and number of the kill point to die at.
    die_at: tuple[str, int] | None = None
    #: At how many parts of arriving transactions from now on the server ends the stream.
    cut_in: int | None = None
    is_cut: bool = False
    _epoch: int = 0

    def __post_init__(self) -> None:
        # Small enough that the server sends large transactions before their end.
        url = conninfo.make_conninfo(self.both.shared.url, options="-c logical_decoding_work_mem=64kB")
        self.both = Databases(Database(self.both.shared.side, url), self.both.service)
        state.install(self.both.service)
        self.shared = _application(self.both.shared)
        self.service = _application(self.both.service)
        self.long = _application(self.both.shared)

    def close(self) -> None:
        self.stop()
        for conn in (self.long, self.shared, self.service):
            conn.close()

    @property
    def stream(self) -> StreamId:
        return StreamId(CONTEXT, self._epoch)

    def reset(self) -> None:
        """Begin anew: empty tables and a new stream."""
        self.stop()
        if self._epoch:
            drop_slot(self.shared, slot_name(self.stream))
        self._epoch += 1
        self.revisions.clear()
        for conn, closed in ((self.shared, False), (self.service, True)):
            tables = ";".join(shape.statements(closed=closed) for shape in SHAPES)
            with conn.transaction():
                conn.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; {TYPES_SQL} {tables}".encode())
        self.shared.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(publication_name(CONTEXT))))
        create_publication(self.shared, publication_name(CONTEXT), [TableName(SCHEMA, shape.name) for shape in SHAPES])
        with export_slot(self.both.shared, slot_name(self.stream), temporary=False, timeout_s=PATIENCE_S) as slot:
            start = Position(slot.system_identifier, slot.timeline, slot.name, slot.consistent_point)
        position.create(self.service, self.stream, start)
        self.service.execute("DELETE FROM carveout.marker; DELETE FROM carveout.outbox_event")

    # -- the application ------------------------------------------------------------------------------------------

    def write(self, transaction: Transaction, end: str, *, carefully: bool) -> bool:
        """Run a transaction on the shared side and end it so; False where the database refused it."""
        self.shared.execute("BEGIN")
        try:
            run(self.shared, transaction, carefully=carefully)
            self.shared.execute(end.encode())
        except psycopg.Error as error:
            _expected(error)
            self.shared.execute("ROLLBACK")
            return False
        return True

    def alter(self, statements: str) -> bool:
        """Run DDL on the shared side; False where a transaction is in its way."""
        try:
            with self.shared.transaction():
                self.shared.execute(statements.encode())
        except psycopg.Error as error:
            _expected(error)
            return False
        return True

    def revise(self) -> bool:
        """Run the oldest revision that the closed side lacks; False where there is none."""
        if not self.revisions:
            return False
        self.service.execute(self.revisions.pop(0).encode())
        return True

    # -- the worker -----------------------------------------------------------------------------------------------

    def start(self) -> Worker:
        """The running worker, or a new one."""
        if self.worker is None:
            self.worker = Worker(self.both, self.stream, self.settings, self.spool)
            self.seen["start"] += 1
        return self.worker

    def stop(self) -> None:
        """End the worker; what is not committed is rolled back."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def kill_point(self, name: str) -> None:
        """Stands in for the process's own."""
        self.seen[name] += 1
        if self.die_at is not None and self.die_at[0] == name:
            self.die_at = (name, self.die_at[1] - 1)
            if self.die_at[1] <= 0:
                self.die_at = None
                raise Killed(name)

    def arriving(self) -> None:
        """The next part of an arriving transaction is taken: the worker may die there, or the stream be cut."""
        self.kill_point("arriving")
        if self.cut_in is not None:
            self.cut_in -= 1
            if self.cut_in < 0:
                self.cut_in, self.is_cut = None, True
                with self.both.shared.connect("test") as conn:
                    conn.execute(
                        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s",
                        (slot_name(self.stream),),
                    )

    def die_after_polls(self, polls: int) -> None:
        """Let the running worker, or a new one, die at a later poll."""
        self.start().source.polls_left = polls

    def live(self) -> None:
        """Take back every death that was planned."""
        self.die_at = self.cut_in = None
        if self.is_cut:  # and everything had arrived before: a later poll would tell
            self.stop()
        self.is_cut = False
        if self.worker is not None:
            self.worker.source.polls_left = None

    def catch_up(self) -> None:
        """Follow to the present, as an operator would: start again what was killed, revise where the stream asks."""
        lsn = self.flushed_lsn()
        while True:
            try:
                follow(self._opened, lambda stream: stream.catch_up(lsn))
                return
            except Killed as death:
                self.seen[f"killed at {death}"] += 1
            except DatabaseUnreachable:
                self.seen["cut"] += 1
            except SchemaMismatch:
                self.seen["mismatch"] += 1
                if not self.revise():
                    raise

    def settle(self) -> None:
        """Follow to the present, and write the revisions that nothing has asked for yet."""
        self.catch_up()
        while self.revise():
            pass

    @contextmanager
    def _opened(self) -> Iterator[Stream]:
        try:
            yield self.start().stream
        except BaseException:
            self.stop()
            raise

    @contextmanager
    def barrier(self) -> Iterator[BarrierSnapshots]:
        """Let the stream run to a barrier; it goes on while the snapshots are used."""
        request, worker = Barrier(), self.start()
        worker.signals.stop.clear()
        ended: list[BaseException] = []
        thread = threading.Thread(target=_run, args=(worker, ended), name="stream")
        worker.signals.barriers.put(request)
        thread.start()
        try:
            wait_until(lambda: not request.answer.empty() or not thread.is_alive())
            if request.answer.empty() or isinstance(answer := request.answer.get(), str):
                raise ended[0] if ended else AssertionError(answer)
            yield answer
        finally:
            request.released.set()
            worker.signals.stop.set()
            thread.join(PATIENCE_S)
            worker.signals.stop.clear()
        if ended:
            raise ended[0]

    def flushed_lsn(self) -> int:
        row = self.shared.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        assert row is not None
        return parse_lsn(row[0])

    # -- both -----------------------------------------------------------------------------------------------------

    def assert_equal(self, snapshots: BarrierSnapshots) -> None:
        """Both sides hold the same rows under the snapshots, value by value as text."""
        with (
            self.both.shared.connect("test", autocommit=False) as shared,
            self.both.service.connect("test", autocommit=False) as service,
        ):
            _import(shared, snapshots.open_snapshot)
            _import(service, snapshots.closed_snapshot)
            for shape in SHAPES:
                columns = _columns(shared, shape.name)
                assert sorted(_columns(service, shape.name)) == sorted(columns), f"columns of {shape.name}"
                open_rows, closed_rows = (_rows(conn, shape.table, columns) for conn in (shared, service))
                assert closed_rows == open_rows, (
                    f"{shape.name}: only open: {[row for row in open_rows if row not in closed_rows]},"
                    f" only closed: {[row for row in closed_rows if row not in open_rows]}"
                )
                self.seen["rows"] += len(open_rows)
            self._assert_told(shared, service)
            self._assert_marked(shared, service, snapshots.lsn)
        self.seen["barrier"] += 1

    def _assert_told(self, shared: Connection, service: Connection) -> None:
        """What was inserted into the outbox is queued: once, whole, whole transactions in the order of their rows."""
        noted = shared.execute("SELECT n, xid::text, topic, key, payload FROM h.log_of_told").fetchall()
        told = {str(n): (xid, topic, key, payload) for n, xid, topic, key, payload in noted}
        queued = service.execute(
            "SELECT event_id, topic, key, convert_from(payload, 'UTF8') FROM carveout.outbox_event ORDER BY id"
        ).fetchall()
        assert {n: rest for n, *rest in queued} == {n: list(rest) for n, (_, *rest) in told.items()}
        assert len(queued) == len(told)
        order = [told[n][0] for n, *_ in queued]
        assert len([xid for xid, _ in groupby(order)]) == len(set(order))
        for _, of_one in groupby(queued, key=lambda row: told[row[0]][0]):
            numbers = [int(n) for n, *_ in of_one]
            assert numbers == sorted(numbers)
        self.seen["events"] += len(queued)

    def _assert_marked(self, shared: Connection, service: Connection, lsn: int) -> None:
        """The markers that were committed are there, at the ends of their transactions."""
        made = shared.execute("SELECT id::text, lsn::text FROM h.marked").fetchall()
        found: dict[str, str] = dict(service.execute("SELECT id, end_lsn::text FROM carveout.marker").fetchall())
        assert found.keys() == dict(made).keys()
        for name, made_at in made:
            assert parse_lsn(made_at) < parse_lsn(found[name]) <= lsn
        self.seen["markers"] += len(made)


def _application(database: Database) -> Connection:
    # A statement that waits for an open transaction of ours would wait for ever.
    return database.connect("test", search_path=SCHEMA, lock_timeout="30ms", client_min_messages="error")


def run(conn: Connection, transaction: Transaction, *, carefully: bool) -> None:
    """Run the statements in the open transaction; carefully: what the database refuses is left out."""
    for item in transaction:
        if isinstance(item, Block):
            conn.execute("SAVEPOINT block")
            try:
                run(conn, item.statements, carefully=carefully)
            except psycopg.Error as error:
                _expected(error)
                conn.execute("ROLLBACK TO block")
            conn.execute("ROLLBACK TO block" if item.is_rolled_back else "RELEASE block")
        elif carefully:
            with suppress(psycopg.Error), conn.transaction():
                _execute(conn, item)
        else:
            _execute(conn, item)


def _execute(conn: Connection, statement: str) -> None:
    try:
        conn.execute(statement.encode())
    except psycopg.Error as error:
        _expected(error)
        raise


def _expected(error: psycopg.Error) -> None:
    """Refusals that a history may meet; any other is a mistake of the test."""
    if not isinstance(
        error,
        (
            psycopg.IntegrityError, psycopg.errors.LockNotAvailable, psycopg.errors.GeneratedAlways,
            psycopg.errors.InFailedSqlTransaction, psycopg.errors.NumericValueOutOfRange,
            psycopg.errors.ObjectInUse,
            psycopg.errors.InvalidColumnReference,  # 18: an identity with a generated column that is not published
        ),
    ):  # fmt: skip
        raise AssertionError(f"{type(error).__name__}: {error}") from error


def _run(worker: Worker, ended: list[BaseException]) -> None:
    try:
        worker.stream.run()
    except BaseException as error:
        ended.append(error)


def _import(conn: Connection, snapshot: str) -> None:
    conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    conn.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))


def _columns(conn: Connection, table: str) -> list[str]:
    found = conn.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum",
        (f"{SCHEMA}.{table}",),
    )
    return [row[0] for row in found]


def _rows(conn: Connection, table: str, columns: list[str]) -> list[Any]:
    query = sql.SQL("COPY (SELECT tableoid::regclass, {} FROM {}) TO STDOUT").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(table)
    )
    with conn.cursor().copy(query) as copy:
        return sorted(bytes(line) for line in copy)
