"""Events as rows of a PostgreSQL table, for those who poll one; each event once, whatever happens."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from cdc.outbox import queue
from cdc.outbox.events import OutboxEvent
from cdc.outbox.sinks import Outcome, SinkUnreachable
from contexts.names import TableName

DDL = """
CREATE TABLE {table} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key text,
    event_id text NOT NULL,
    headers jsonb NOT NULL,
    payload bytea,
    at timestamptz NOT NULL,
    UNIQUE (topic, event_id)
)
"""


class TableSink:
    """Inserts into a table made by :data:`DDL`."""

    def __init__(self, url: str, table: TableName) -> None:
        self._url = url
        self._insert = sql.SQL(
            "INSERT INTO {} (topic, key, event_id, headers, payload, at)"
            " SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::jsonb[], %s::bytea[], %s::timestamptz[])"
            " ON CONFLICT (topic, event_id) DO NOTHING"
        ).format(sql.Identifier(*table))

    def publish(self, events: Mapping[int, OutboxEvent]) -> Outcome:
        """Insert all of them, or none."""
        try:
            with psycopg.connect(self._url) as conn:
                conn.execute(self._insert, queue.arrays(events.values()))
        except psycopg.Error as error:
            raise SinkUnreachable(
                f"outbox sink (table): {type(error).__name__}: {error.diag.message_primary or 'no answer'}",
                unchanged="the events wait",
                next_step="look at the database and table of [outbox_sink]",
            ) from None
        return Outcome(list(events))

    def close(self) -> None:
        """Nothing is kept open."""
