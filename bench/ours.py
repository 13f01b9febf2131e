"""Carveout as a contestant: only its public interfaces, with the defaults of its options."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import data
from bench.backlog import RUN_SLOT, begin
from bench.harness import Details, Ends, Rig
from cdc import state
from cdc.apply import Applier
from cdc.events import Event, Idle, Transaction
from cdc.source.embedded import EmbeddedSource
from cdc.source.slots import slot_status
from cdc.state import position
from cdc.state.position import Position, StreamId
from contexts.databases import Database
from contexts.errors import CarveoutError
from contexts.model import Options, Side, TableName

STREAM = StreamId("bench", 1)
OPTIONS = Options()
_WAIT_S = 0.2


def sides(ends: Ends) -> tuple[Database, Database]:
    """The source as the shared side, the target as the service's."""
    return Database(Side.SHARED, ends.source), Database(Side.SERVICE, ends.target)


def begin_stream(bench: Rig) -> None:
    """The state before the backlog, and a position that stands at the run's slot."""
    begin(bench)
    shared, service = sides(bench.ends)
    state.install(service)
    with shared.connect("bench") as source, service.connect("bench") as target:
        identity = source.execute(
            "SELECT system_identifier::text, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
        ).fetchone()
        confirmed = slot_status(source, RUN_SLOT).confirmed_flush_lsn
        if identity is None or confirmed is None:
            raise CarveoutError(f"slot {RUN_SLOT} was not made", next_step="run the bench again")
        position.create(target, STREAM, Position(identity[0], identity[1], RUN_SLOT, confirmed))


def read(ends: Ends) -> Details:
    """The embedded source alone: every change of the backlog is received and decoded, none is applied."""
    shared, service = sides(ends)
    with service.connect("bench") as conn:
        start = position.read(conn, STREAM)
    assert start is not None
    last, rows = data.log_end(ends.source), 0
    with open_source(shared, start) as source:
        reached = 0
        while reached < last:
            event = source.poll(_WAIT_S)
            if isinstance(event, Transaction):
                rows += sum(1 for _ in event.changes)
            elif event is None:
                source.request_idle()
            reached = max(reached, _reached(event))
    return {"rows": rows}


def apply(ends: Ends) -> Details:
    """Source and applier, until the position has passed the end of the backlog."""
    shared, service = sides(ends)
    last = data.log_end(ends.source)
    tables = [TableName("public", name) for name in data.TABLES]
    applier = Applier(service, STREAM, tables, OPTIONS, owner=uuid.uuid4())
    commits = 0
    try:
        with open_source(shared, applier.position) as source:
            reached = 0
            while reached < last:
                event = source.poll(0.0 if applier.pending else _WAIT_S)
                if isinstance(event, Transaction):
                    applier.apply(event)
                elif event is None:
                    source.request_idle()
                reached = max(reached, _reached(event))
                if applier.is_due() or (event is None and applier.pending) or reached >= last:
                    source.acknowledge(applier.commit())
                    commits += 1
    finally:
        applier.close()
    return {"commits": commits, "fallbacks": applier.fallbacks}


@contextmanager
def open_source(shared: Database, start: Position) -> Iterator[EmbeddedSource]:
    """The embedded source with the options' defaults, closed at the end with its spool."""
    memory = int(OPTIONS.spool_mb * 2**20)
    with tempfile.TemporaryDirectory() as folder:
        source = EmbeddedSource(shared, data.PUBLICATION, start, spool_dir=Path(folder), memory_bytes=memory)
        try:
            yield source
        finally:
            source.close()


def _reached(event: Event | None) -> int:
    match event:
        case Transaction(end_lsn=lsn) | Idle(lsn=lsn):
            return lsn
        case None:
            return 0
