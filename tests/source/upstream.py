"""A real server to stream from, and a source that reads it to a marker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg import sql

from cdc.events import Change, Event, Idle, Message, Transaction
from cdc.lsn import parse_lsn
from cdc.source.embedded import EmbeddedSource
from cdc.source.slots import create_publication, export_slot, slot_status
from cdc.state.position import Position
from contexts.databases import Connection, Database
from contexts.model import TableName

DEADLINE_S = 30.0
PUBLICATION = "carveout_test"
_pause = threading.Event()  # never set: what is waited for notifies nobody


@dataclass
class Upstream:
    """The open side of a stream under test."""

    database: Database
    spool: Path
    conn: Connection
    slot: str
    settings: dict[str, str] = field(default_factory=dict)

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.conn.execute(sql.SQL(statement))

    def value(self, query: str) -> Any:
        row = self.conn.execute(sql.SQL(query)).fetchone()
        assert row is not None
        return row[0]

    def publish(self, *tables: str) -> Position:
        """Publish the tables and make the slot: the position at which a stream begins."""
        create_publication(self.conn, PUBLICATION, [TableName.parse(table) for table in tables])
        made = export_slot(self.database, self.slot, temporary=False, timeout_s=DEADLINE_S, publication=PUBLICATION)
        with made:
            return Position(made.system_identifier, made.timeline, made.name, made.consistent_point)

    def source(self, position: Position, **options: Any) -> EmbeddedSource:
        options.setdefault("memory_bytes", 1_000_000)
        return EmbeddedSource(self.database, PUBLICATION, position, spool_dir=self.spool, **options)

    def open(self, position: Position, **options: Any) -> AbstractContextManager[EmbeddedSource]:
        return closing(self.source(position, **options))

    def mark(self, content: str = "end") -> None:
        self.conn.execute("SELECT pg_logical_emit_message(true, 'test', %s)", (content,))

    def changes(self, position: Position, **options: Any) -> list[Change]:
        """All changes since the position, as rows that a fresh source brings."""
        self.mark()
        with self.open(position, **options) as source:
            return [change for _, changes in until_mark(source) for change in changes]

    def flushed_lsn(self) -> int:
        return parse_lsn(self.value("SELECT pg_current_wal_flush_lsn()::text"))

    def confirmed(self) -> int:
        return slot_status(self.conn, self.slot).confirmed_flush_lsn or 0


def until_mark(source: EmbeddedSource, content: str = "end") -> list[tuple[Transaction, list[Change]]]:
    """The transactions up to the marker, decoded, without it."""
    found: list[tuple[Transaction, list[Change]]] = []
    while True:
        event = next_event(source, lambda event: isinstance(event, Transaction))
        assert isinstance(event, Transaction)
        changes = list(event.changes)
        assert len(changes) == event.size
        if changes and isinstance(changes[0], Message) and changes[0].content == content.encode():
            return found
        found.append((event, changes))


def next_event(source: EmbeddedSource, wanted: Callable[[Event], bool] = lambda _: True) -> Event:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if (event := source.poll(1.0)) is not None and wanted(event):
            return event
    raise AssertionError("no such event in time")


def idle_at(source: EmbeddedSource, lsn: int) -> Idle:
    """Ask until the source says that it has come to ``lsn``."""

    def reached(event: Event) -> bool:
        source.request_idle()
        return isinstance(event, Idle) and event.lsn >= lsn

    source.request_idle()
    event = next_event(source, reached)
    assert isinstance(event, Idle)
    return event
