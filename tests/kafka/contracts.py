"""Real records against the contract: every one has to be of its schema, and no field may be missing there."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator

from cdc.kafka.contract import Contract, describe, schemas
from cdc.kafka.contract import avro as avro_schemas
from cdc.kafka.settings import Encoding
from contexts.catalog import Table
from contexts.databases import Connection
from contexts.model import TableName
from migrator.contract import LABELS

Record = tuple[bytes | None, bytes | None]


def contract_of(
    conn: Connection, tables: Mapping[TableName, Table], encoding: Encoding, plain_arrays: Collection[str] = ()
) -> Contract:
    """The contract of tables as the catalog has them; partitions belong to their roots."""
    leaves = {leaf for leaves in partitions(conn).values() for leaf in leaves}
    labels = {oid: tuple(names) for oid, names in conn.execute(LABELS)}
    declared = [name for name in tables if name not in leaves]
    return describe("test", declared, tables, encoding, plain_arrays, labels)


def partitions(conn: Connection) -> dict[TableName, set[TableName]]:
    """The leaves of every partitioned table."""
    rows = conn.execute(
        "SELECT n.nspname, c.relname, ln.nspname, lc.relname"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " CROSS JOIN LATERAL pg_partition_tree(c.oid) t JOIN pg_class lc ON lc.oid = t.relid"
        " JOIN pg_namespace ln ON ln.oid = lc.relnamespace WHERE c.relkind = 'p' AND NOT c.relispartition"
        " AND t.relid <> c.oid"
    ).fetchall()
    found: dict[TableName, set[TableName]] = {}
    for schema, name, leaf_schema, leaf in rows:
        found.setdefault(TableName(schema, name), set()).add(TableName(leaf_schema, leaf))
    return found


def records(bootstrap: str, topic: str) -> list[Record]:
    """Every committed record of a topic, partition by partition: key and value."""
    from kafka import KafkaConsumer, TopicPartition

    consumer: Any = KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, isolation_level="read_committed"
    )
    read: list[Record] = []
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        while any(consumer.position(one) < end for one, end in ends.items()):
            for found in consumer.poll(timeout_ms=500).values():
                read += ((record.key, record.value) for record in found)
        return read
    finally:
        consumer.close()


@dataclass
class Judge:
    """Validates records; ``seen`` counts them by table or kind."""

    contract: Contract
    roots: Mapping[TableName, TableName] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._validators = {
            name.removesuffix(".schema.json"): Draft202012Validator(
                strict(schema), format_checker=Draft202012Validator.FORMAT_CHECKER
            )
            for name, schema in schemas(self.contract, ["json-schema"]).items()
        }
        self._avro = {name.removesuffix(".avsc"): schema for name, schema in schemas(self.contract, ["avro"]).items()}

    @classmethod
    def of(cls, conn: Connection, contract: Contract) -> Judge:
        """A judge that takes the events of partitions for those of their roots."""
        return cls(contract, {leaf: root for root, leaves in partitions(conn).items() for leaf in leaves})

    def judge(self, found: Iterable[Record]) -> None:
        """Every record has to be of the schemas of its table."""
        for key, value in found:
            whole = json.loads(value) if value else None
            if whole is not None:
                self._one(json.loads(key) if key else None, whole)

    def _one(self, key: Any, whole: Any) -> None:
        payload = whole["payload"]
        kind, table = _kind(payload), None
        if kind == "row":
            name = TableName(payload["source"]["schema"], payload["source"]["table"])
            table = self.roots.get(name, name)
            kind = f"{'.'.join(avro_free(part) for part in table)}"
            if payload["op"] != "t":  # a TRUNCATE has no key
                self._valid(f"{kind}.key", key)
            self._fields(table, whole["schema"])
            self._valid(f"{kind}.value", whole)
        else:
            self._valid(kind, whole)
        self._valid_avro(kind if table is None else f"{kind}.value", payload)
        self.seen[kind] += 1

    def _valid(self, name: str, instance: Any) -> None:
        errors = [f"{error.json_path}: {error.message[:200]}" for error in self._validators[name].iter_errors(instance)]
        assert errors == [], f"{name}: {errors}"

    def _valid_avro(self, name: str, payload: Any) -> None:
        import fastavro

        parsed = self._avro[name]
        fastavro.validate(as_avro(payload, parsed, named_in(parsed)), parsed, strict=True)

    def _fields(self, table: TableName, schema: Any) -> None:
        """What Connect itself says of the columns is what the contract says."""
        [row] = [one["fields"] for one in schema["fields"] if one["field"] == "after"]
        sent = {one["field"]: (one["type"], one.get("name") or "", one["optional"], _items(one)) for one in row}
        said = {f.name: (f.type, f.logical, f.nullable, f.items) for f in self.contract.tables[table].fields}
        assert sent == said, f"{table}: {dict(sent.items() - said.items())}, {dict(said.items() - sent.items())}"


def avro_free(part: str) -> str:
    from urllib.parse import quote

    return quote(part, safe="").replace(".", "%2E")


def _items(one: Any) -> tuple[str, str]:
    items = one.get("items")
    return (items["type"], items.get("name") or "") if items else ("", "")


def _kind(payload: Any) -> str:
    match payload:
        case {"status": _}:
            return "transaction"
        case {"op": "m"}:
            return "message"
        case {"op": _}:
            return "row"
        case {"aggregate_type": _}:
            return "notification"
        case _:
            return "heartbeat"


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema, which allows nothing that it does not name, and misses everything that it names."""
    closed = copy.deepcopy(schema)
    waiting: list[Any] = [closed]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()
            if isinstance(one.get("properties"), dict):
                one |= {"additionalProperties": False, "required": list(one["properties"])}
    return closed


def named_in(schema: Any) -> dict[str, Any]:
    """Every record of a schema by its full name."""
    match schema:
        case list():
            return {name: found for one in schema for name, found in named_in(one).items()}
        case {"type": "record"}:
            inner = named_in([f["type"] for f in schema["fields"]])
            return {f"{schema['namespace']}.{schema['name']}": schema, **inner}
        case {"items": items}:
            return named_in(items)
        case {"type": dict() as one}:
            return named_in(one)
        case _:
            return {}


def as_avro(value: Any, schema: Any, known: dict[str, Any]) -> Any:
    """A payload in JSON as Avro holds it: bytes are bytes, names are Avro's, and no number is a text."""
    import base64

    match schema:
        case list():
            return None if value is None else as_avro(value, next(one for one in schema if one != "null"), known)
        case {"type": "record"}:
            plain = {avro_schemas.plain(name): part for name, part in value.items()}
            return {f["name"]: as_avro(plain.pop(f["name"]), f["type"], known) for f in schema["fields"]} | plain
        case {"type": "array"}:
            return [as_avro(one, schema["items"], known) for one in value]
        case {"type": inner}:
            return as_avro(value, inner, known)
        case str() if schema in known:
            return as_avro(value, known[schema], known)
        case "bytes":
            return base64.b64decode(value)
        case "float" | "double":
            return float(value)
        case _:
            return value
