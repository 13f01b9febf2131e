"""Notes the rows inserted into outbox tables while they pass to the closed side.

No observer: it sees every transaction of the stream, also while the copy runs and in lockstep, and costs the other
tables nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import psycopg

from cdc.events import Change, Insert, Relation, Transaction
from cdc.outbox import queue
from cdc.outbox.events import OutboxEvent, Router
from cdc.state.position import StreamId
from contexts import sqlfiles
from contexts.catalog import read_tables
from contexts.databases import Connection
from contexts.model import TableName
from contexts.outbox import Outbox

_SQL = sqlfiles.load("cdc.apply", "watch.sql")


class Tap:
    """Belongs to one applier and its session."""

    def __init__(self, conn: Connection, stream: StreamId, outboxes: Sequence[Outbox]) -> None:
        self._conn = conn
        self._stream = stream
        self._outboxes = {outbox.table: outbox for outbox in outboxes}
        self._routers: dict[Relation, Router | None] = {}
        self._commit_time_us = 0
        self._noted: list[OutboxEvent] = []

    def begin(self, transaction: Transaction) -> None:
        """What is noted from here on belongs to ``transaction``."""
        self._commit_time_us = transaction.commit_time_us

    def knows(self, relation: Relation) -> bool:
        """Whether :meth:`takes` answers without asking the server."""
        return relation in self._routers

    def takes(self, relation: Relation) -> bool:
        """Whether it is an outbox table, or a partition of one.

        :raises StreamStopped: it lacks a column that was declared.
        """
        if relation not in self._routers:
            self._routers[relation] = self._router(relation)
        return self._routers[relation] is not None

    def shown(self, changes: Iterable[Change]) -> Iterator[Change]:
        """The changes as they are, noted in passing."""
        for change in changes:
            self.note(change)
            yield change

    def note(self, change: Change) -> None:
        """Keep an inserted row's event; updates, deletes and TRUNCATE make none.

        :raises StreamStopped: the row makes no event.
        """
        if isinstance(change, Insert) and self.takes(change.relation):
            router = self._routers[change.relation]
            assert router is not None
            self._noted.append(router.event(change, self._commit_time_us))

    def taken(self) -> list[OutboxEvent]:
        """What was noted since, to be written with the rows that were collected meanwhile."""
        noted, self._noted = self._noted, []
        return noted

    def write(self, events: Sequence[OutboxEvent]) -> None:
        """Queue the events in the open target transaction."""
        if events:
            queue.add(self._conn, self._stream, events)

    def _router(self, relation: Relation) -> Router | None:
        root = psycopg.RawCursor(self._conn).execute(_SQL["root"], tuple(relation.table)).fetchone()
        outbox = self._outboxes.get(TableName(*root) if root else relation.table)
        if outbox is None:
            return None
        table = read_tables(self._conn, [relation.table]).get(relation.table)
        types = {column.name: column.base_type_sql for column in table.columns} if table else {}
        return Router(outbox, relation, types)
