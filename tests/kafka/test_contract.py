"""The contract of events: its version, its files, and what its changes mean for readers, as Avro's rules have it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastavro
import pytest
from jsonschema import Draft202012Validator

from cdc.kafka.contract import Break, Contract, Field, TableEvents, compare, read, schemas, write
from contexts.databases import Databases
from contexts.errors import ConfigError
from contexts.model import TableName
from tests.migrator.moving import Bank

TABLE = TableName("app", "t")
ID = Field("id", "int64", "", False, "bigint", "bigint")
#: The greatest of each: what a narrower type cannot hold.
VALUES: Mapping[str, Any] = {
    "int16": 2**15 - 1, "int32": 2**31 - 1, "int64": 2**63 - 1, "float": 3.4028234663852886e38, "double": 1e300,
    "string": "x", "boolean": True, "bytes": "eA==",
}  # fmt: skip
B, F = frozenset({Break.BACKWARD}), frozenset({Break.FORWARD})


def column(kind: str, base: str = "", *, nullable: bool = True, **more: Any) -> Field:
    return Field("v", kind, more.pop("logical", ""), nullable, base or kind, base or kind, **more)


def contract(*fields: Field, key: tuple[str, ...] = ("id",), **more: Any) -> Contract:
    events = TableEvents(key, (ID, *fields), more.pop("before_is_full", False), more.pop("is_partitioned", False))
    return Contract("test", {TABLE: events})


UUID = "io.debezium.data.Uuid"
#: Old, new, and what the change breaks.
CASES = {
    "added": (contract(), contract(column("string")), frozenset()),
    "added never null": (contract(), contract(column("string", nullable=False)), B),
    "removed": (contract(column("string")), contract(), frozenset()),
    "removed never null": (contract(column("string", nullable=False)), contract(), F),
    "null now": (contract(column("int32", nullable=False)), contract(column("int32")), F),
    "never null now": (contract(column("int32")), contract(column("int32", nullable=False)), B),
    "int to bigint": (contract(column("int32")), contract(column("int64")), F),
    "bigint to int": (contract(column("int64")), contract(column("int32")), B),
    "real to double": (contract(column("float")), contract(column("double")), F),
    "int to double": (contract(column("int32")), contract(column("double")), F),
    "bigint to text": (contract(column("int64")), contract(column("string", "text")), B | F),
    "boolean to int": (contract(column("boolean")), contract(column("int32")), B | F),
    "ints to texts": (
        contract(column("array", "integer[]", items=("int32", ""))),
        contract(column("array", "text[]", items=("string", ""))),
        B | F,
    ),
}
#: Changes that Avro does not see, and readers do.
MEANT = {
    "to varchar": (contract(column("string", "text")), contract(column("string", "character varying")), frozenset()),
    "numeric to text": (contract(column("string", "numeric")), contract(column("string", "text")), F),
    "text to numeric": (contract(column("string", "text")), contract(column("string", "numeric")), B),
    "uuid to text": (contract(column("string", "uuid", logical=UUID)), contract(column("string", "text")), F),
    "label added": (contract(column("string", labels=("a",))), contract(column("string", labels=("a", "b"))), F),
    "label removed": (contract(column("string", labels=("a", "b"))), contract(column("string", labels=("b",))), B),
    "placeholder": (contract(column("string")), contract(column("string", unchanged=True)), F),
    "no placeholder": (contract(column("string", unchanged=True)), contract(column("string")), B),
    "key": (contract(key=("id",)), contract(key=()), B | F),
    "before": (contract(before_is_full=True), contract(), F),
    "whole before": (contract(), contract(before_is_full=True), B),
    "partitioned": (contract(), contract(is_partitioned=True), B | F),
    "table removed": (contract(), Contract("test", {}), F),
    "table added": (Contract("test", {}), contract(), frozenset()),
}


@pytest.mark.parametrize("case", {**CASES, **MEANT}.values(), ids=[*CASES, *MEANT])
def test_a_change_breaks_what_it_breaks(case: tuple[Contract, Contract, frozenset[Break]]) -> None:
    old, new, expected = case
    [change] = compare(old, new)
    assert change.breaks == expected, change
    assert compare(old, old) == compare(new, new) == []


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_avro_and_json_schema_say_the_same(case: tuple[Contract, Contract, frozenset[Break]]) -> None:
    old, new, expected = case
    samples = (dict[str, Any](), {"v": None})
    for written, reader, kind in ((old, new, Break.BACKWARD), (new, old, Break.FORWARD)):
        rows = [{"id": 1, **full(written), **more} for more in samples if "v" not in more or may_be_null(written)]
        assert all(avro_reads(written, reader, row) for row in rows) is (kind not in expected), kind
        assert all(json_reads(reader, row) for row in rows) is (kind not in expected), kind


def full(one: Contract) -> dict[str, Any]:
    found = [f for f in one.tables[TABLE].fields if f.name == "v"]
    return {f.name: [VALUES[f.items[0]], None] if f.items[0] else VALUES[f.type] for f in found}


def may_be_null(one: Contract) -> bool:
    return any(f.nullable for f in one.tables[TABLE].fields)


def envelope(row: dict[str, Any]) -> dict[str, Any]:
    texts = dict.fromkeys(("version", "connector", "name", "db"), "x")
    source = {**texts, "schema": TABLE.schema, "table": TABLE.name, "ts_ms": 1}
    return {"before": None, "after": row, "source": source, "transaction": None, "op": "c"}


def avro_reads(written: Contract, reader: Contract, row: dict[str, Any]) -> bool:
    writing, reading = (fastavro.parse_schema(schemas(one)["app.t.value.avsc"]) for one in (written, reader))
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, writing, envelope(row))
    stream.seek(0)
    try:
        fastavro.schemaless_reader(stream, writing, reading)
    except (fastavro.read.SchemaResolutionError, ValueError, TypeError):
        return False
    return True


def json_reads(reader: Contract, row: dict[str, Any]) -> bool:
    validator = Draft202012Validator(schemas(reader)["app.t.value.schema.json"])
    return bool(validator.is_valid({"schema": {}, "payload": envelope(row)}))


def test_every_schema_is_one(tmp_path: Path) -> None:
    point = "io.debezium.data.geometry.Point"
    fields = [column(kind, nullable=False) for kind in VALUES]
    named = [replace(one, name=f"Odd {one.type}") for one in fields]
    place = replace(column("struct", "point", logical=point), name="p")
    both = contract(*named, place, column("string", labels=("a",)))
    found = schemas(both)
    assert {name.split(".", 1)[1] for name in found if name.startswith("transaction")} == {"schema.json", "avsc"}
    for name, schema in found.items():
        if name.endswith(".avsc"):
            fastavro.parse_schema(schema)
        else:
            Draft202012Validator.check_schema(schema)


def test_the_version_rises_with_every_change_and_only_then(tmp_path: Path) -> None:
    assert write(tmp_path, contract()).version == 1
    assert write(tmp_path, contract()).version == 1
    wider = Contract("test", {**contract(column("string")).tables, TableName("app", "u"): contract().tables[TABLE]})
    assert write(tmp_path, wider).version == 2
    assert read(tmp_path, "test") == replace(wider, version=2)
    assert json.loads((tmp_path / "app.u.key.schema.json").read_text())["$id"] == "urn:carveout:test:2:app.u:key"
    assert write(tmp_path, contract()).version == 3
    assert not (tmp_path / "app.u.key.schema.json").exists()
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".avsc"}


def test_a_file_of_others_is_no_contract(tmp_path: Path) -> None:
    write(tmp_path, contract())
    with pytest.raises(ConfigError, match="the contract of context 'test'"):
        read(tmp_path, "other")
    (tmp_path / "contract.json").write_text('{"shape": 1}')
    with pytest.raises(ConfigError, match="no contract of Carveout"):
        write(tmp_path, contract())


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    """A context whose stream goes through a Kafka that is not asked."""
    made = Bank.create(tmp_path, pair)
    file = tmp_path / "contexts" / "bank" / "context.toml"
    section = '[kafka]\nbootstrap = "127.0.0.1:1"\nconnect = "http://127.0.0.1:1"\n'
    file.write_text('source = "kafka"\n' + file.read_text() + section)
    return made


def test_the_command_writes_compares_and_names_what_is_broken(bank: Bank) -> None:
    folder = bank.folder / "events"
    shown = json.loads(bank.cli("connector", "schema", "bank", "--format", "avro").stdout)["schemas"]
    assert shown["bank.account.value.avsc"]["namespace"] == "bank.bank.account"
    missing = bank.cli("connector", "schema", "bank", "--check", str(folder), expect=2).stderr
    assert "holds no contract" in missing
    assert "contract 1 written" in bank.cli("connector", "schema", "bank", "-o", str(folder)).stdout
    assert "no changes since contract 1" in bank.cli("connector", "schema", "bank", "--check", str(folder)).stdout
    with bank.both.shared.connect("test") as conn:
        conn.execute("ALTER TABLE bank.account ADD note text, ALTER balance TYPE bigint USING balance::bigint")
    judged = bank.cli("connector", "schema", "bank", "--check", str(folder), expect=3)
    assert "  bank.account.note: column added (text)\n" in judged.stdout
    assert "! bank.account.balance: type" in judged.stdout
    assert "bank.account.balance" in judged.stderr
    assert "note" not in judged.stderr
    assert "contract 2 written" in bank.cli("connector", "schema", "bank", "-o", str(folder)).stdout
    with bank.both.shared.connect("test") as conn:
        conn.execute("UPDATE bank.account SET note = ''; ALTER TABLE bank.account ALTER note SET NOT NULL")
    check = ("connector", "schema", "bank", "--check", str(folder), "--require")
    assert "breaks backward" in bank.cli(*check, "forward").stdout
    bank.cli(*check, "backward", expect=3)


def test_a_column_that_would_not_arrive_whole_has_no_contract(bank: Bank) -> None:
    with bank.both.shared.connect("test") as conn:
        conn.execute("ALTER TABLE bank.account ADD at timetz")
    assert "bank.account.at" in bank.cli("connector", "schema", "bank", expect=4).stderr
