"""Reads ``contexts/<name>/invariants/*.sql``; every refusal names the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from contexts.errors import ConfigError
from contexts.model import Context, Side
from validations.invariants.model import Invariant, Kind, Severity

FOLDER = "invariants"
KEYS = ("proves", "severity", "sides", "kind", "key")
_FRONT = re.compile(r"--\s*([A-Za-z_]+)\s*:\s*(.*?)\s*")
_E = TypeVar("_E", bound=StrEnum)


def load(context: Context) -> tuple[Invariant, ...]:
    """The invariants of a context in the order of their names; none where it has no such file.

    :raises ConfigError: a file cannot be used.
    """
    return tuple(read(path) for path in sorted((context.folder / FOLDER).glob("*.sql")))


def read(path: Path) -> Invariant:
    """One invariant.

    :raises ConfigError: the file cannot be used.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if "\0" in text:  # the server would see only what stands before it
            raise ValueError("holds a NUL character")
        front, body = _split(text)
        return _invariant(path.stem, text, front, body)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: {error}",
            unchanged="no invariant was run",
            next_step="the first lines are '-- proves: ...', '-- severity: ...', '-- sides: ...', then one SELECT",
        ) from error


def _split(text: str) -> tuple[dict[str, str], str]:
    """The comment lines at the top, as keys and values, and what follows them."""
    front: dict[str, str] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("--"):
            return front, "\n".join(lines[number:])
        match = _FRONT.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number + 1} is no '-- key: value'; other comments stand below the first SQL line")
        key, value = match.groups()
        if key not in KEYS:
            raise ValueError(f"line {number + 1}: unknown key {key!r} (there are {', '.join(KEYS)})")
        if key in front:
            raise ValueError(f"line {number + 1}: {key} stands there twice")
        front[key] = value
    return front, ""


def _invariant(name: str, text: str, front: Mapping[str, str], body: str) -> Invariant:
    if not front.get("proves"):
        raise ValueError("does not say what it proves")
    if not body.strip():
        raise ValueError("holds no statement")
    kind = _one(Kind, "kind", front.get("kind", Kind.ROWS))
    sides = tuple(_one(Side, "sides", side) for side in _names(front, "sides")) or tuple(Side)
    if len(set(sides)) < len(sides):
        raise ValueError("sides: a side stands there twice")
    if kind is Kind.NUMBER and (set(sides) != set(Side) or "key" in front):
        raise ValueError("kind: a number is compared across both sides and has no key")
    severity = _one(Severity, "severity", front.get("severity", Severity.ERROR))
    return Invariant(name, front["proves"], text, severity, sides, kind, _names(front, "key"))


def _names(front: Mapping[str, str], key: str) -> tuple[str, ...]:
    if key not in front:
        return ()
    names = tuple(name.strip() for name in front[key].split(","))
    if not all(names):
        raise ValueError(f"{key}: an empty name")
    return names


def _one(choices: type[_E], key: str, value: str) -> _E:
    try:
        return choices(value)
    except ValueError:
        raise ValueError(f"{key}: {value!r} is none of {', '.join(choices)}") from None
