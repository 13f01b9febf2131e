"""JSON Schema (draft 2020-12) of the records, as Connect's JSON converter writes them with schemas."""

from __future__ import annotations

from typing import Any

from cdc.kafka.contract.forms import DATA, JSON, POINT, POINT_FIELDS, Schema, meaning
from cdc.kafka.contract.model import Field, TableEvents
from contexts.model import TableName

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_INT64, _TEXT = JSON["int64"], JSON["string"]


def value(table: TableName, events: TableEvents, identity: str) -> Schema:
    """The schema of the records' values of one table."""
    place = {} if events.is_partitioned else {"schema": {"const": table.schema}, "table": {"const": table.name}}
    return {
        **_head(identity, f"changes of {table}"),
        **_wrapped(
            {
                "type": "object",
                "properties": {
                    "before": _or_null({"$ref": "#/$defs/before"}),
                    "after": _or_null({"$ref": "#/$defs/after"}),
                    "source": _source(place),
                    "transaction": _or_null(_BLOCK),
                    "op": {"enum": ["c", "u", "d", "t"]},
                    **{name: _or_null(_INT64) for name in _TIMES},
                },
                "required": ["before", "after", "source", "transaction", "op"],
            }
        ),
        "$defs": {"after": _row(events.fields), "before": _before(events)},
    }


def key(table: TableName, events: TableEvents, identity: str) -> Schema:
    """The schema of the records' keys: the primary key, or nothing."""
    head = _head(identity, f"keys of {table}")
    if not events.key:
        return {**head, "type": "null"}
    return {**head, **_wrapped(_row(tuple(events.field(name) for name in events.key)))}


def others(identity: str) -> dict[str, Schema]:
    """The schemas of the records that belong to no table, by kind."""
    collection = _object({"data_collection": _TEXT, "event_count": _INT64})
    boundary: dict[str, Schema] = {
        "status": {"enum": ["BEGIN", "END"]},
        "id": {"type": "string", "pattern": "^[0-9]+:[0-9]+$"},
        "event_count": _or_null(_INT64),
        "data_collections": _or_null({"type": "array", "items": collection}),
        "ts_ms": _INT64,
    }
    message: dict[str, Schema] = {"prefix": _or_null(_TEXT), "content": _or_null(JSON["bytes"])}
    logical: dict[str, Schema] = {
        "op": {"const": "m"},
        "ts_ms": _or_null(_INT64),
        "source": _source({}),
        "transaction": _or_null(_BLOCK),
        "message": _object(message),
    }
    texts = {"type": ["object", "null"], "additionalProperties": _TEXT}
    notification: dict[str, Schema] = {
        **dict.fromkeys(("id", "aggregate_type", "type"), _TEXT),
        "additional_data": texts,
        "timestamp": _INT64,
    }
    kinds: dict[str, tuple[str, dict[str, Schema]]] = {
        "transaction": ("begin and end of transactions", boundary),
        "message": ("logical messages", logical),
        "heartbeat": ("heartbeats", {"ts_ms": _INT64}),
        "notification": ("the connector has started", notification),
    }
    return {
        kind: {**_head(f"{identity}:{kind}", title), **_wrapped(_object(properties))}
        for kind, (title, properties) in kinds.items()
    }


def _head(identity: str, title: str) -> Schema:
    return {"$schema": _DIALECT, "$id": f"urn:carveout:{identity}", "title": title}


def _wrapped(payload: Schema) -> Schema:
    """The converter's wrapping: Connect's own description of the payload, then the payload."""
    return _object({"schema": {"type": "object"}, "payload": payload})


def _object(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _or_null(schema: Schema) -> Schema:
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


_TIMES = ("ts_ms", "ts_us", "ts_ns")
_BLOCK = _object({"id": _TEXT, "total_order": _INT64, "data_collection_order": _INT64})


def _source(place: dict[str, Schema]) -> Schema:
    always = dict.fromkeys(("version", "connector", "name", "db", "schema", "table"), _TEXT)
    sometimes = {name: _or_null(_INT64) for name in ("ts_us", "ts_ns", "txId", "lsn", "xmin", "origin_lsn")}
    sometimes |= {name: _or_null(_TEXT) for name in ("snapshot", "sequence", "origin")}
    found = _object({**always, "ts_ms": _INT64, **place})
    return {**found, "properties": {**found["properties"], **sometimes}}


def _row(fields: tuple[Field, ...]) -> Schema:
    """A row; a column that may be NULL need not be there, so one that is added or dropped breaks nobody."""
    return {
        "type": "object",
        "properties": {field.name: _column(field) for field in fields},
        "required": [field.name for field in fields if not field.nullable],
    }


def _before(events: TableEvents) -> Schema:
    if events.before_is_full:
        return {"$ref": "#/$defs/after"}
    known = _row(tuple(events.field(name) for name in events.key))
    others = {field.name: _without_meaning(field) for field in events.fields if field.name not in events.key}
    described = "only the columns of the key mean something: the others hold null, or a default of their type"
    return {**known, "description": described, "properties": {**known["properties"], **others}}


def _without_meaning(field: Field) -> Schema:
    return {"description": "no value"} | _or_null(_form(field.type, field.logical, field.items))


def _column(field: Field) -> Schema:
    form = _form(field.type, field.logical, field.items)
    if field.labels:
        form = {"enum": list(field.labels)}
    said = [meaning(field.logical, field.base, field.type)]
    if field.unchanged:
        said.append("an update that left it alone may hold the connector's unavailable.value.placeholder instead")
    described = {"description": "; ".join(filter(None, said))} if any(said) else {}
    noted: dict[str, Any] = {"x-postgres-type": field.postgres}
    if field.unchanged:
        noted["x-may-be-unchanged"] = True
    return {**(_or_null(form) if field.nullable else form), **described, **noted}


def _form(kind: str, logical: str, items: tuple[str, str]) -> Schema:
    if kind == "array":
        return {"type": "array", "items": _or_null(_form(items[0], items[1], ("", "")))}
    if logical == POINT:
        return _object({n: _or_null(JSON[k]) if optional else JSON[k] for n, (k, optional) in POINT_FIELDS.items()})
    return {**JSON[kind], **({"format": "uuid"} if logical == f"{DATA}Uuid" else {})}
