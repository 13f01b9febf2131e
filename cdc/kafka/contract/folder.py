"""A contract in a folder: ``contract.json`` with its version, and a file for each schema beside it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cdc.kafka.contract import avro, jsonschema
from cdc.kafka.contract.forms import Schema
from cdc.kafka.contract.model import Contract, Field, TableEvents
from contexts.errors import ConfigError
from contexts.model import TableName

JSON_SCHEMA, AVRO = "json-schema", "avro"
#: Each format, with how its files end.
FORMATS: Mapping[str, str] = {JSON_SCHEMA: "schema.json", AVRO: "avsc"}
_FILE = "contract.json"
_SHAPE = 1


def schemas(contract: Contract, formats: Collection[str] = tuple(FORMATS)) -> dict[str, Schema]:
    """Every schema of the contract, by the name of its file."""
    found: dict[str, Schema] = {}
    if JSON_SCHEMA in formats:
        found |= _named(FORMATS[JSON_SCHEMA], _json(contract))
    if AVRO in formats:
        found |= _named(FORMATS[AVRO], _avro(contract))
    return found


def write(folder: Path, contract: Contract, formats: Collection[str] = tuple(FORMATS)) -> Contract:
    """Write the contract and its schemas; the version is the next one where the folder holds another contract.

    Files of tables that are gone are removed. Returns the contract with its version.

    :raises ConfigError: what the folder holds is no contract, or that of another context.
    """
    known = read(folder, contract.context)
    if known is not None:
        rises = replace(contract, version=known.version) != known
        contract = replace(contract, version=known.version + rises)
    wanted = schemas(contract, formats)
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in wanted.items():
        _write(folder / name, schema)
    if known is not None:
        for name in schemas(known, formats).keys() - wanted.keys():
            (folder / name).unlink(missing_ok=True)
    _write(folder / _FILE, _to_json(contract))  # last: what it names is there
    return contract


def read(folder: Path, context: str) -> Contract | None:
    """The contract that a folder holds, or None.

    :raises ConfigError: it cannot be read, or is that of another context.
    """
    file = folder / _FILE
    if not file.exists():
        return None
    try:
        found = _from_json(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file}: no contract of Carveout ({type(error).__name__})") from error
    if found.context != context:
        raise ConfigError(f"{file}: the contract of context {found.context!r}, not of {context!r}")
    return found


def _json(contract: Contract) -> dict[str, Schema]:
    identity = f"{contract.context}:{contract.version}"
    found: dict[str, Schema] = {}
    for table, events in contract.tables.items():
        found[f"{_stem(table)}.value"] = jsonschema.value(table, events, f"{identity}:{_stem(table)}:value")
        found[f"{_stem(table)}.key"] = jsonschema.key(table, events, f"{identity}:{_stem(table)}:key")
    return {**found, **jsonschema.others(identity)}


def _avro(contract: Contract) -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for table, events in contract.tables.items():
        found[f"{_stem(table)}.value"] = avro.value(contract.context, table, events)
        found[f"{_stem(table)}.key"] = avro.key(contract.context, table, events)
    return {**found, **avro.others()}


def _named(ending: str, found: Mapping[str, Schema]) -> dict[str, Schema]:
    return {f"{stem}.{ending}": schema for stem, schema in found.items()}


def _stem(table: TableName) -> str:
    return ".".join(quote(part, safe="").replace(".", "%2E") for part in table)


def _write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _to_json(contract: Contract) -> dict[str, Any]:
    tables = [{"schema": table.schema, "name": table.name, **asdict(e)} for table, e in contract.tables.items()]
    return {"shape": _SHAPE, "context": contract.context, "version": contract.version, "tables": tables}


def _from_json(found: Mapping[str, Any]) -> Contract:
    if found["shape"] != _SHAPE:
        raise ValueError("written by another release")
    tables = {TableName(one.pop("schema"), one.pop("name")): _events(one) for one in found["tables"]}
    return Contract(found["context"], tables, int(found["version"]))


def _events(one: Mapping[str, Any]) -> TableEvents:
    fields = [
        Field(**{**f, "items": tuple(f["items"]), "labels": tuple(f["labels"])})  # JSON knows lists alone
        for f in one["fields"]
    ]
    return TableEvents(tuple(one["key"]), tuple(fields), one["before_is_full"], one["is_partitioned"])
