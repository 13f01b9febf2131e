"""Carveout as a contestant: the worker's own loops, with the defaults of the options."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from bench import backlog, data
from bench.harness import Details, Ends, Rig
from cdc import state
from cdc.apply import Applier
from cdc.copy import CopyProgress
from cdc.events import Event, Idle, Transaction
from cdc.source.base import Source
from cdc.source.slots import slot_status
from cdc.state import position
from cdc.state.position import Position, StreamId
from cdc.worker.follow import open_source
from cdc.worker.garbage import collect_rarely
from cdc.worker.initial import InitialCopy
from cdc.worker.signals import Signals
from cdc.worker.stream import Stream
from contexts.databases import Database
from contexts.errors import CarveoutError
from contexts.model import Context, Options, Service, Side, Table, TableName
from contexts.rules import AppendOnly, Monotonic, Required, Rule
from validations.rules import install as install_rules
from validations.rules.checker import RuleChecker

STREAM = StreamId(data.CONTEXT, 1)
_WAIT_S = 0.2


class _Quiet:
    """Never stops, never pauses."""

    def should_stop(self) -> bool:
        return False

    def is_paused(self) -> str | None:
        return None

    def snapshot_imported(self) -> None:
        pass

    def progress(self, progress: CopyProgress) -> None:
        pass


def begin_copy(bench: Rig) -> None:
    """Empty tables with their primary keys, as the first revision of a service makes them."""
    bench.recreate(bench.target)
    with data.connect(bench.ends.target) as conn:
        data.execute(conn, "tables", "keys")
    state.install(sides(bench.ends)[1])


def copy(ends: Ends, jobs: int) -> Details:
    """The initial copy from the making of the slot to the last secondary index."""
    shared, service = sides(ends)
    with tempfile.TemporaryDirectory() as spool:
        InitialCopy(
            shared,
            service,
            _context(ends, Options(copy_workers=jobs)),
            STREAM,
            owner=uuid.uuid4(),
            signals=Signals(),
            control=_Quiet(),
            spool=Path(spool),
            build_indexes=partial(_build_indexes, ends),
        ).run()
    return {}


def end_copy(bench: Rig) -> None:
    """The slot would keep the log of all rounds to come."""
    data.require_equal(bench)
    with data.connect(bench.ends.source) as conn, data.connect(bench.ends.target) as target:
        where = position.read(target, STREAM)
        assert where is not None
        conn.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", (where.slot,))


def begin_stream(bench: Rig) -> None:
    """The state before the backlog, and a position that stands at the run's slot."""
    backlog.begin(bench)
    shared, service = sides(bench.ends)
    state.install(service)
    with shared.connect("bench") as source, service.connect("bench") as target:
        identity = source.execute(
            "SELECT system_identifier::text, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
        ).fetchone()
        confirmed = slot_status(source, backlog.RUN_SLOT).confirmed_flush_lsn
        if identity is None or confirmed is None:
            raise CarveoutError(f"slot {backlog.RUN_SLOT} was not made", next_step="run the bench again")
        position.create(target, STREAM, Position(identity[0], identity[1], backlog.RUN_SLOT, confirmed))


def read(ends: Ends) -> Details:
    """The embedded source alone: every change of the backlog is received and decoded, none is applied."""
    _, service = sides(ends)
    with service.connect("bench") as conn:
        start = position.read(conn, STREAM)
    assert start is not None
    last, rows, reached = data.log_end(ends.source), 0, 0
    with _source(ends, _context(ends), start) as source:
        while reached < last:
            event = source.poll(_WAIT_S)
            if isinstance(event, Transaction):
                rows += sum(1 for _ in event.changes)
            elif event is None:
                source.request_idle()
            reached = max(reached, _reached(event))
    return {"rows": rows}


_LEDGER, _WALLET = TableName("public", "ledger_entry"), TableName("public", "wallet")
RULES: Sequence[Rule] = (
    # None of them is ever broken by the transfers: what is measured is the judging.
    Required(name="reference", kind="required", table=_LEDGER, when={"kind": "transfer"}, columns=("reference",)),
    AppendOnly(name="ledger", kind="append_only", table=_LEDGER),
    Monotonic(name="version", kind="monotonic", table=_WALLET, column="version"),
)


def apply_with_rules(ends: Ends) -> Details:
    """As :func:`apply`, every change judged by a rule: required, monotonic and append-only."""
    return apply(ends, rules=RULES)


def apply(ends: Ends, rules: Sequence[Rule] = ()) -> Details:
    """The worker's stream, until the position has passed the end of the backlog; timed once it is open."""
    shared, service = sides(ends)
    context = _context(ends)
    last = data.log_end(ends.source)
    names, options = context.table_names, context.options
    collect_rarely()  # as the worker's process does
    if rules:
        install_rules(service)
    begun = time.perf_counter()
    observers = [RuleChecker(STREAM, rules, service)] if rules else []
    with (
        closing(Applier(service, STREAM, names, options, owner=uuid.uuid4(), observers=observers)) as applier,
        _source(ends, context, applier.position) as source,
    ):
        opened = time.perf_counter()
        Stream(
            source, applier, context=context.name, open_=shared, closed=service, options=options, signals=Signals()
        ).catch_up(last)
        seconds = time.perf_counter() - opened
        return {"seconds": seconds, "startup_s": opened - begun, "fallbacks": applier.fallbacks}


def sides(ends: Ends) -> tuple[Database, Database]:
    """The source as the shared side, the target as the service's."""
    return Database(Side.SHARED, ends.source), Database(Side.SERVICE, ends.target)


@contextmanager
def _source(ends: Ends, context: Context, start: Position) -> Iterator[Source]:
    with (
        tempfile.TemporaryDirectory() as spool,
        closing(open_source(*sides(ends), context, STREAM, start, Path(spool))) as source,
    ):
        yield source


def _context(ends: Ends, options: Options | None = None) -> Context:
    tables = tuple(Table(name=TableName("public", name)) for name in data.TABLES)
    service = Service(url=ends.target)
    return Context(name=data.CONTEXT, tables=tables, service=service, options=options or Options())


def _build_indexes(ends: Ends) -> None:
    with data.connect(ends.target) as conn:
        data.execute(conn, "indexes")


def _reached(event: Event | None) -> int:
    match event:
        case Transaction(end_lsn=lsn) | Idle(lsn=lsn):
            return lsn
        case None:
            return 0
