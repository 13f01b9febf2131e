"""What an outbox row becomes: the same message that Debezium's Outbox Event Router would send. No I/O."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from cdc.events import Insert, Relation, Value
from contexts.errors import StreamStopped
from contexts.outbox import ROUTED, Outbox

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
Header = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """One message; ``payload`` None is a message without value."""

    topic: str
    key: str | None
    event_id: str
    #: In the order in which they are sent; the first is ``id``.
    headers: tuple[Header, ...]
    payload: bytes | None
    at: dt.datetime


class Router:
    """Makes events of the rows of one relation of an outbox table.

    :param types: the SQL type of each of the table's columns.
    :raises StreamStopped: the table lacks a column that was declared.
    """

    def __init__(self, outbox: Outbox, relation: Relation, types: Mapping[str, str]) -> None:
        self._outbox = outbox
        self._names = [column.name for column in relation.columns]
        self._is_binary = types.get(outbox.payload) == "bytea"
        if missing := set(outbox.columns) - set(self._names):
            raise self._stopped(f"there is no column {min(missing)}, which context.toml declares")

    def event(self, insert: Insert, commit_time_us: int) -> OutboxEvent:
        """The event of an inserted row.

        :raises StreamStopped: its id or aggregate type is NULL, so that nobody could know or route it.
        """
        row, outbox = dict(zip(self._names, insert.new, strict=True)), self._outbox
        event_id, routed = self._text(row, outbox.id), self._text(row, outbox.aggregate_type)
        if event_id is None or routed is None:
            raise self._stopped(f"a row has no {outbox.id} or no {outbox.aggregate_type}")
        headers: list[Header] = [("id", event_id)]
        if outbox.type:
            headers.append(("eventType", self._text(row, outbox.type)))
        headers += [(name, self._text(row, column)) for name, column in outbox.headers.items()]
        topic = outbox.topic.replace(ROUTED, routed)
        return OutboxEvent(
            topic, self._text(row, outbox.aggregate_id), event_id, tuple(headers), self._payload(row),
            self._at(row, commit_time_us),
        )  # fmt: skip

    def _payload(self, row: Mapping[str, Value]) -> bytes | None:
        value = self._value(row, self._outbox.payload)
        # The stream pins bytea_output=hex.
        return bytes.fromhex(value[2:].decode()) if self._is_binary and value is not None else value

    def _at(self, row: Mapping[str, Value], commit_time_us: int) -> dt.datetime:
        text = self._text(row, self._outbox.timestamp) if self._outbox.timestamp else None
        if text is None:
            return _EPOCH + dt.timedelta(microseconds=commit_time_us)
        try:
            found = dt.datetime.fromisoformat(text)
        except ValueError:  # infinity, or a year that no message can have
            return _EPOCH + dt.timedelta(microseconds=commit_time_us)
        return found if found.tzinfo else found.replace(tzinfo=dt.UTC)

    def _text(self, row: Mapping[str, Value], column: str) -> str | None:
        value = self._value(row, column)
        return None if value is None else value.decode()

    def _value(self, row: Mapping[str, Value], column: str) -> bytes | None:
        value = row[column]
        if value is None or isinstance(value, bytes):
            return value
        raise self._stopped(f"the stream does not say what is in column {column} ({value!r})")

    def _stopped(self, why: str) -> StreamStopped:
        return StreamStopped(
            f"outbox table {self._outbox.table}: {why}",
            unchanged="no row was written, nothing was published",
            next_step="mend the declaration or the table: carveout check names what an outbox table needs",
        )
