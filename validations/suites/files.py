"""Reads ``contexts/<name>/suites/*.json``; every refusal names the file. Needs no great-expectations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from contexts.errors import ConfigError
from contexts.model import Context, Side, TableName
from validations.suites.model import Expectation, Severity, Suite

FOLDER = "suites"
#: Keys of a suite and of an expectation in files that great-expectations writes; the last ones mean nothing here.
_SUITE_KEYS = frozenset({"name", "expectations", "meta", "id", "notes"})
_EXPECTATION_KEYS = frozenset({"type", "kwargs", "meta", "severity", "description", "id", "notes"})
_OWN_KEYS = frozenset({"table", "sides", "may_be_empty"})
_E = TypeVar("_E", bound=StrEnum)


def load(context: Context) -> tuple[Suite, ...]:
    """The suites of a context in the order of their names; none where it has no such file.

    :raises ConfigError: a file cannot be used.
    """
    return tuple(read(path, context.table_names) for path in sorted((context.folder / FOLDER).glob("*.json")))


def read(path: Path, tables: Iterable[TableName]) -> Suite:
    """One suite, for one of the tables.

    :raises ConfigError: the file cannot be used.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return _suite(path.stem, text, _parse(text), frozenset(tables))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: {error}",
            unchanged="no suite was run",
            next_step="write a suite as great-expectations does, with meta.carveout.table",
        ) from error


def _parse(text: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(pairs)
        if len(seen) < len(pairs):
            raise ValueError(f"a key stands twice in one object, among {', '.join(seen)}")
        return seen

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    found = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    if not isinstance(found, dict):
        raise ValueError("a suite is one JSON object")
    return found


def _suite(stem: str, text: str, raw: Mapping[str, Any], tables: frozenset[TableName]) -> Suite:
    _refuse_unknown(raw, _SUITE_KEYS, "the suite")
    if raw.get("name", stem) != stem:
        raise ValueError(f"name: {raw['name']!r} differs from the file's name {stem!r}")
    own = _object(_object(raw, "meta", "the suite"), "carveout", "meta")
    _refuse_unknown(own, _OWN_KEYS, "meta.carveout")
    table = TableName.parse(_text(own, "table", "meta.carveout"))
    if table not in tables:
        raise ValueError(f"meta.carveout.table: {table} is no table of this context")
    listed = raw.get("expectations")
    if not isinstance(listed, list) or not listed:
        raise ValueError("expectations: there is none, so the suite would prove nothing")
    expectations = tuple(_expectation(f"expectations[{number}]", entry) for number, entry in enumerate(listed))
    may_be_empty = own.get("may_be_empty", False)
    if not isinstance(may_be_empty, bool):
        raise ValueError("meta.carveout.may_be_empty: is true or false")
    return Suite(stem, table, text, expectations, _sides(own), may_be_empty)


def _expectation(where: str, raw: Any) -> Expectation:
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: is no object")
    _refuse_unknown(raw, _EXPECTATION_KEYS, where)
    arguments = _object(raw, "kwargs", where)
    if "$PARAMETER" in json.dumps(arguments):
        raise ValueError(f"{where}: suite parameters are not supported")
    severity = _one(Severity, f"{where}: severity", raw.get("severity", Severity.CRITICAL))
    return Expectation(_text(raw, "type", where), arguments, severity, raw.get("description") or "")


def _sides(own: Mapping[str, Any]) -> tuple[Side, ...]:
    listed = own.get("sides", [*Side])
    if not isinstance(listed, list) or not listed:
        raise ValueError("meta.carveout.sides: is a list of sides")
    wanted = {_one(Side, "meta.carveout.sides", side) for side in listed}
    if len(wanted) < len(listed):
        raise ValueError("meta.carveout.sides: a side stands there twice")
    return tuple(side for side in Side if side in wanted)


def _refuse_unknown(raw: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    if unknown := sorted(raw.keys() - known):
        raise ValueError(f"{where}: unknown key {', '.join(unknown)} (there are {', '.join(sorted(known))})")


def _object(raw: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    found = raw.get(key)
    if not isinstance(found, dict):
        raise ValueError(f"{where}: {key}: is no object" if key in raw else f"{where}: {key} is missing")
    return found


def _text(raw: Mapping[str, Any], key: str, where: str) -> str:
    found = raw.get(key)
    if not isinstance(found, str) or not found:
        raise ValueError(f"{where}: {key}: is no text" if key in raw else f"{where}: {key} is missing")
    return found


def _one(choices: type[_E], where: str, value: object) -> _E:
    try:
        return choices(value)  # type: ignore[arg-type]
    except ValueError:
        raise ValueError(f"{where}: {value!r} is none of {', '.join(choices)}") from None
