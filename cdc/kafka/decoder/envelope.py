"""A Kafka record of Debezium, told apart by its content: the topic's name says nothing that is not in there."""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from contexts.errors import StreamStopped
from contexts.model import TableName

Fields = tuple[Mapping[str, Any], ...]
Headers = Iterable[tuple[str, bytes | None]]
NEW_KEY: Final = "__debezium.newkey"
OLD_KEY: Final = "__debezium.oldkey"
RUN_ID: Final = "__debezium.context.runId"
_SEPARATOR = b',"payload":'
_SCHEMAS_KEPT = 256
_JSON = json.JSONDecoder()
#: One value that begins at a place, and where it ends; ``raw_decode`` is this and a call around it.
_scan: Callable[[str, int], tuple[Any, int]] = vars(_JSON)["scan_once"]
_BEFORE, _AFTER, _NEW = '{"before":', ',"after":', '{"before":null,"after":'
#: All that follows the two images in the event of a row, as Debezium 3.6 writes it; no string in it has an escape.
_REST = re.compile(
    r',"source":\{"version":"[^"\\]*","connector":"postgresql","name":"[^"\\]*","ts_ms":[0-9]+,"snapshot":null,'
    r'"db":"[^"\\]*","sequence":"\[(?:null|\\"([0-9]+)\\"),(?:null|\\"[0-9]+\\")\]","ts_us":([0-9]+),"ts_ns":[0-9]+,'
    r'"schema":"([^"\\]*)","table":"([^"\\]*)","txId":([0-9]+),"lsn":([0-9]+),"xmin":(?:null|[0-9]+),'
    r'"origin":null,"origin_lsn":null\},"transaction":\{"id":"([0-9]+):[0-9]+","total_order":([0-9]+),'
    r'"data_collection_order":[0-9]+\},"op":"([cud])","ts_ms":[0-9]+,"ts_us":[0-9]+,"ts_ns":[0-9]+\}'
)
_BOUNDARY = re.compile(
    r'\{"status":"(?:BEGIN|(END))","id":"([0-9]+):([0-9]+)","event_count":(?:null|([0-9]+)),"data_collections":'
    r'(?:null|\[(?:\{"data_collection":"[^"\\]*","event_count":[0-9]+\},?)*\]),"ts_ms":[0-9]+\}'
)


class Undecodable(StreamStopped):
    """An event that cannot be read without guessing: nothing after it is read either."""


class Source(NamedTuple):
    """Where an event comes from (the ``source`` block)."""

    table: TableName
    #: None in incremental snapshots.
    lsn: int | None
    #: None outside of transactions.
    xid: int | None
    #: End of the last transaction that the connector saw committed before this event, None at its start.
    last_commit: int | None
    #: Commit time in microseconds since 1970.
    time_us: int


class Place(NamedTuple):
    """An event's place in its transaction (the ``transaction`` block)."""

    xid: int
    #: Counts from 1.
    total_order: int


class RowEvent(NamedTuple):
    """An inserted, updated, deleted or (``op == "r"``) read row, still in JSON."""

    op: str
    source: Source
    place: Place | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    #: The fields of a row in the event's schema (one object per schema), None where the event has none.
    fields: Fields | None
    #: This is the delete half of a changed key; an event with ``key_came`` follows.
    key_left: bool
    key_came: bool
    run: bytes
    size: int


@dataclass(frozen=True, slots=True)
class TruncateEvent:
    """One table of a TRUNCATE."""

    source: Source
    place: Place | None
    run: bytes
    size: int


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """A logical message; outside of a transaction ``place`` is None."""

    source: Source
    place: Place | None
    prefix: str
    content: bytes
    run: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Boundary:
    """BEGIN or END of a transaction."""

    is_end: bool
    xid: int
    #: The end of the commit record at END; of no use at BEGIN.
    lsn: int
    #: Events in the transaction, at END.
    count: int


class Started:
    """The connector was started here: what it sends from now on may not follow what came before."""


class Nothing:
    """A record without meaning of its own: a tombstone or a heartbeat."""


_ROW_OPS: Final = frozenset("cudr")
STARTED: Final = Started()
NOTHING: Final = Nothing()
Record = RowEvent | TruncateEvent | MessageEvent | Boundary | Started | Nothing


class Envelopes:
    """Parses records; keeps the schemas that it has seen, so each is parsed once and not per event."""

    def __init__(self) -> None:
        #: By where it ends: the bytes of a schema and what follows it, and the fields of its rows.
        self._schemas: dict[int, tuple[bytes, Fields | None]] = {}
        self._last = 0

    def parse(self, value: bytes | None, headers: Headers = ()) -> Record:
        """What a record says.

        :raises Undecodable: no event of Debezium for PostgreSQL.
        """
        if value is None:
            return NOTHING
        try:
            fields, text = self._split(value)
            about = fields, dict(headers), len(value)
            return _row(text, *about) or _boundary(text) or _record(_JSON.decode(text), *about)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Undecodable(
                f"no event of Debezium for PostgreSQL ({type(error).__name__}: {_shown(error)})"
            ) from error

    def _split(self, value: bytes) -> tuple[Fields | None, str]:
        """The fields of the event's rows, and its payload."""
        if not value.startswith(b'{"schema":'):
            return None, value.decode()
        # The converter writes the schema first; equal schemas are equal bytes, and most of an event's size.
        if (known := self._known(value, self._last)) is None:
            at = value.find(_SEPARATOR)
            while at > 0 and (known := self._known(value, at)) is None:
                at = value.find(_SEPARATOR, at + 1)
        if known is not None:
            begin = len(known[0])
            self._last = begin - len(_SEPARATOR)
            return known[1], value[begin:-1].decode()
        whole = json.loads(value)
        fields = _row_fields(whole["schema"])
        self._remember(value, fields)
        return fields, json.dumps(whole["payload"], separators=(",", ":"))

    def _known(self, value: bytes, at: int) -> tuple[bytes, Fields | None] | None:
        known = self._schemas.get(at)
        return known if known is not None and value.startswith(known[0]) else None

    def _remember(self, value: bytes, fields: Fields | None) -> None:
        text = value.decode()
        _, end = json.JSONDecoder().raw_decode(text, len('{"schema":'))
        prefix = text[:end].encode()
        if value.startswith(_SEPARATOR, len(prefix)):
            if len(self._schemas) >= _SCHEMAS_KEPT:
                self._schemas.clear()
            self._schemas[len(prefix)] = prefix + _SEPARATOR, fields


def _row(text: str, fields: Fields | None, headers: Mapping[str, bytes | None], size: int) -> RowEvent | None:
    """The event of a row of which only the images are parsed as JSON; None where it is anything else."""
    if not text.startswith(_BEFORE):
        return None
    before, end = None, len(_NEW)
    try:
        if not text.startswith(_NEW):
            before, end = _scan(text, len(_BEFORE))
            end = text.index(_AFTER, end, end + len(_AFTER)) + len(_AFTER)
        after, end = _scan(text, end)
    except (StopIteration, ValueError):
        return None
    if (rest := _REST.fullmatch(text, end)) is None:
        return None
    commit, time_us, schema, table, xid, lsn, inside, order, op = rest.groups()
    source = Source(_table(schema, table), int(lsn), int(xid), int(commit) if commit else None, int(time_us))
    return RowEvent(
        op, source, Place(int(inside), int(order)), before, after, fields, NEW_KEY in headers, OLD_KEY in headers,
        headers.get(RUN_ID) or b"", size,
    )  # fmt: skip


@functools.lru_cache(maxsize=1024)
def _table(schema: str, name: str) -> TableName:
    return TableName(schema, name)


def _boundary(text: str) -> Boundary | None:
    """The same for BEGIN and END."""
    if (found := _BOUNDARY.fullmatch(text)) is None:
        return None
    end, xid, lsn, count = found.groups()
    return Boundary(end is not None, int(xid), int(lsn), int(count or 0))


def _record(payload: Any, fields: Fields | None, headers: Mapping[str, bytes | None], size: int) -> Record:
    run = headers.get(RUN_ID) or b""
    if (op := payload.get("op")) in _ROW_OPS:
        return RowEvent(
            op, _source(payload["source"]), _place(payload), payload.get("before"), payload.get("after"),
            fields, NEW_KEY in headers, OLD_KEY in headers, run, size,
        )  # fmt: skip
    match payload:
        case {"op": "m", "message": message}:
            return MessageEvent(
                _source(payload["source"]), _place(payload), message["prefix"], _content(message), run, size
            )
        case {"op": "t"}:
            return TruncateEvent(_source(payload["source"]), _place(payload), run, size)
        case {"status": "BEGIN" | "END" as status, "id": str(identity)}:
            xid, lsn = identity.split(":")
            return Boundary(status == "END", int(xid), int(lsn), payload.get("event_count") or 0)
        case {"ts_ms": int()} if len(payload) == 1:
            return NOTHING
        case {"aggregate_type": str(about), "type": str()}:  # a notification: each start skips or takes a snapshot
            return STARTED if about == "Initial Snapshot" else NOTHING
        case _:
            raise ValueError("unknown shape")


def _source(block: Mapping[str, Any]) -> Source:
    time_us = block.get("ts_us")
    return Source(
        TableName(block["schema"], block["table"]), block["lsn"], block["txId"], _last_commit(block.get("sequence")),
        block["ts_ms"] * 1000 if time_us is None else time_us,
    )  # fmt: skip


def _last_commit(sequence: str | None) -> int | None:
    """The first of the two numbers, which are texts in a JSON array in a text."""
    if not sequence:
        return None
    first = sequence[1:-1].partition(",")[0]
    return None if first == "null" else int(first.strip('"'))


def _place(payload: Mapping[str, Any]) -> Place | None:
    block = payload.get("transaction")
    # The part after the colon differs from event to event of one transaction.
    return Place(int(block["id"].split(":")[0]), block["total_order"]) if block else None


def _content(message: Mapping[str, Any]) -> bytes:
    content = message["content"]
    return base64.b64decode(content, validate=True) if content else b""


def _row_fields(schema: Mapping[str, Any]) -> Fields | None:
    """The fields of ``after``; None in the schema of a message or of a transaction's end."""
    return next((tuple(field["fields"]) for field in schema["fields"] if field["field"] == "after"), None)


def _shown(error: Exception) -> str:
    # A message of the JSON parser may quote the row.
    return "not JSON" if isinstance(error, json.JSONDecodeError | binascii.Error) else str(error)[:80]
