"""What a preflight check gets and what it says."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString, Protocol

from psycopg import sql

from contexts.model import Side, TableName

if TYPE_CHECKING:
    from migrator.checks.environment import Environment


class Severity(enum.StrEnum):
    """How much a finding weighs; only a blocker makes ``carveout check`` refuse."""

    BLOCKER = "blocker"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found. It holds no row values and no secrets."""

    severity: Severity
    #: Where it is, and where a fix that is a statement must be run; None where it concerns both sides.
    side: Side | None
    #: What it is about: a table, role, setting, slot.
    object: str
    message: str
    #: What to do: SQL, one statement a line, wherever a statement does it; prose or TOML otherwise.
    fix: str
    #: The check's name; filled in by the runner.
    check: str = ""


class Check(Protocol):
    """The function ``check`` of every check module; its module's docstring is its documentation."""

    def __call__(self, environment: Environment) -> Iterable[Finding]:
        """Read, never write, and yield what was found.

        :raises psycopg.Error: the check could not be made; the runner turns that into a blocker.
        """


def blocker(side: Side | None, about: object, message: str, fix: str) -> Finding:
    """A finding with which the migration would fail, or break an application."""
    return Finding(Severity.BLOCKER, side, str(about), message, fix)


def warning(side: Side | None, about: object, message: str, fix: str) -> Finding:
    """A finding that somebody must look at, and may accept."""
    return Finding(Severity.WARNING, side, str(about), message, fix)


def info(side: Side | None, about: object, message: str, fix: str) -> Finding:
    """A fact worth knowing before the start."""
    return Finding(Severity.INFO, side, str(about), message, fix)


def statement(template: LiteralString, *parts: TableName | str | sql.Composable) -> str:
    """A statement to run as it is: names are quoted as identifiers, the end gets its semicolon."""
    return sql.SQL(template).format(*map(_composable, parts)).as_string() + ";"


def words(keywords: Iterable[str]) -> sql.Composable:
    """Keywords such as privileges, joined by commas; they come from a catalog or a model, and are checked again."""
    known = [keyword.upper() for keyword in keywords]
    if unknown := [keyword for keyword in known if not keyword.replace(" ", "").isalpha()]:
        raise ValueError(f"no keyword: {unknown[0]!r}")
    return sql.SQL(", ").join(sql.SQL(keyword) for keyword in known)


def _composable(part: TableName | str | sql.Composable) -> sql.Composable:
    if isinstance(part, sql.Composable):
        return part
    return sql.Identifier(*part) if isinstance(part, TableName) else sql.Identifier(part)
