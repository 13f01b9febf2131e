"""Avro schemas of keys and values: what a converter to Avro makes of Connect's own, for consumers of such topics.

The topics of Carveout hold JSON; bytes, which are base64 there, are bytes here.
"""

from __future__ import annotations

import re
from typing import Any

from cdc.kafka.contract.forms import AVRO, POINT, POINT_FIELDS, Schema, meaning
from cdc.kafka.contract.model import Field, TableEvents
from contexts.errors import RefusedError
from contexts.model import TableName

_SOURCE = "io.debezium.connector.postgresql"


def value(context: str, table: TableName, events: TableEvents) -> Schema:
    """The envelope of one table's changes."""
    space = namespace(context, table)
    row = _record("Value", space, [_column(table, field) for field in events.fields])
    fields = [
        _optional("before", row),
        _optional("after", f"{space}.Value"),
        {"name": "source", "type": _source()},
        _optional("transaction", _block()),
        {"name": "op", "type": "string"},
        *(_optional(name, "long") for name in ("ts_ms", "ts_us", "ts_ns")),
    ]
    return _record("Envelope", space, fields)


def key(context: str, table: TableName, events: TableEvents) -> Schema:
    """The primary key of one table, or ``null``."""
    if not events.key:
        return {"type": "null"}
    fields = [_column(table, events.field(name)) for name in events.key]
    return _record("Key", namespace(context, table), fields)


def others() -> dict[str, Schema]:
    """The records that belong to no table, by kind."""
    common = "io.debezium.connector.common"
    counted = [{"name": "data_collection", "type": "string"}, {"name": "event_count", "type": "long"}]
    boundary = [
        {"name": "status", "type": "string"},
        {"name": "id", "type": "string"},
        _optional("event_count", "long"),
        _optional("data_collections", {"type": "array", "items": ["null", _record("collection", "event", counted)]}),
        {"name": "ts_ms", "type": "long"},
    ]
    message = _record("Message", _SOURCE, [_optional("prefix", "string"), _optional("content", "bytes")])
    logical = [
        {"name": "op", "type": "string"},
        _optional("ts_ms", "long"),
        {"name": "source", "type": _source()},
        _optional("transaction", _block()),
        {"name": "message", "type": message},
    ]
    notification = [
        *({"name": name, "type": "string"} for name in ("id", "aggregate_type", "type")),
        _optional("additional_data", {"type": "map", "values": "string"}),
        {"name": "timestamp", "type": "long"},
    ]
    return {
        "transaction": _record("TransactionMetadataValue", common, boundary),
        "message": _record("MessageValue", _SOURCE, logical),
        "heartbeat": _record("Heartbeat", common, [{"name": "ts_ms", "type": "long"}]),
        "notification": _record("Notification", common, notification),
    }


def namespace(context: str, table: TableName) -> str:
    """Of a table's records; the same on both sides of a cutover, which the connector's own names are not."""
    return f"{context}.{plain(table.schema)}.{plain(table.name)}"


def plain(name: str) -> str:
    """A name as Avro allows it."""
    return re.sub(r"^(?=[0-9])", "_", re.sub(r"[^A-Za-z0-9_]", "_", name))


def _record(name: str, space: str, fields: list[Schema]) -> Schema:
    names = [field["name"] for field in fields]
    if doubled := sorted({one for one in names if names.count(one) > 1}):
        raise RefusedError(
            f"{space}: two columns have the name {doubled[0]!r} in Avro, which knows letters, digits and _ only",
            unchanged="nothing was written",
            next_step="--format json-schema",
        )
    return {"type": "record", "name": name, "namespace": space, "fields": fields}


def _optional(name: str, kind: Any) -> Schema:
    return {"name": name, "type": ["null", kind], "default": None}


def _column(table: TableName, field: Field) -> Schema:
    name, kind = plain(field.name), _form(field)
    found = _optional(name, kind) if field.nullable else {"name": name, "type": kind}
    said = meaning(field.logical, field.base, field.type)
    column = {"postgres.column": field.name} if name != field.name else {}
    return {**found, **({"doc": said} if said else {}), **column, "postgres.type": field.postgres}


def _form(field: Field) -> Any:
    if field.type == "array":
        return {"type": "array", "items": ["null", _named(*field.items)]}
    if field.logical != POINT:
        return _named(field.type, field.logical, field.labels)
    space, _, name = POINT.rpartition(".")
    # Each record needs a name of its own; where it is used twice, Avro wants the second by name alone.
    fields = [
        _optional(part, AVRO[kind]) if optional else {"name": part, "type": AVRO[kind]}
        for part, (kind, optional) in POINT_FIELDS.items()
    ]
    return _record(f"{name}_{plain(field.name)}", space, fields)


def _named(kind: str, logical: str, labels: tuple[str, ...] = ()) -> Any:
    form = AVRO[kind]
    if not logical:
        return form
    allowed = {"connect.parameters": {"allowed": ",".join(labels)}} if labels else {}
    return {**(form if isinstance(form, dict) else {"type": form}), "connect.name": logical, **allowed}


def _source() -> Schema:
    texts = ("version", "connector", "name", "db", "schema", "table")
    return _record(
        "Source",
        _SOURCE,
        [
            *({"name": name, "type": "string"} for name in texts),
            {"name": "ts_ms", "type": "long"},
            *(_optional(name, "string") for name in ("snapshot", "sequence", "origin")),
            *(_optional(name, "long") for name in ("ts_us", "ts_ns", "txId", "lsn", "xmin", "origin_lsn")),
        ],
    )


def _block() -> Schema:
    longs = [{"name": name, "type": "long"} for name in ("total_order", "data_collection_order")]
    return _record("block", "event", [{"name": "id", "type": "string"}, *longs])
