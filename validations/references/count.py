"""Orphans of one reference: keys of referring rows whose row is not there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from contexts import sqlfiles
from contexts.databases import Connection
from contexts.model import Reference, Side, TableName
from validations.invariants.model import Limits, Outcome, Violation

_SQL = sqlfiles.load("validations.references", "count.sql")
#: Keys asked for at once.
_BATCH = 5_000
_Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class End:
    """Where one end of a reference is read."""

    session: Connection
    #: Opens a session that sees the rows as they are now.
    now: Callable[[], AbstractContextManager[Connection]]


def orphans(
    side: Side, reference: Reference, referring: End, referred: End, limits: Limits, *, one_moment: bool
) -> Outcome:
    """The orphans of a reference, as what ``side`` answers; a server's refusal is an answer too, and no green one.

    :param one_moment: both ends see the same moment, so what looks like an orphan is one.
    """
    began = time.monotonic()
    try:
        found = _orphans(reference, referring, referred, limits)
        if found and not one_moment:
            found = _still(reference, referring, referred, found, limits)
    except psycopg.Error as failed:
        if failed.sqlstate is None:
            raise
        return Outcome(side, f"{type(failed).__name__} ({failed.sqlstate})")
    violations = tuple(Violation(tuple(zip(reference.columns, key, strict=True))) for key in found[: limits.keep_rows])
    return Outcome(side, rows=len(found), violations=violations, milliseconds=(time.monotonic() - began) * 1000)


def _orphans(reference: Reference, referring: End, referred: End, limits: Limits) -> list[_Key]:
    for end in (referring, referred):
        _limit(end.session, limits)
    found: list[_Key] = []
    for keys in _keys(referring.session, reference):
        found += _missing(referred.session, reference, keys)
    return sorted(found)


def _still(reference: Reference, referring: End, referred: End, found: list[_Key], limits: Limits) -> list[_Key]:
    """What of ``found`` is an orphan now. The two sessions see different moments: a row may be younger than one."""
    with referring.now() as ours, referred.now() as theirs:
        _limit(ours, limits)
        _limit(theirs, limits)
        kept: list[_Key] = []
        for start in range(0, len(found), _BATCH):
            there = _referring(ours, reference, found[start : start + _BATCH])
            kept += _referring(ours, reference, _missing(theirs, reference, there))
    return kept


def _keys(session: Connection, reference: Reference) -> Iterator[list[_Key]]:
    """All keys of the referring rows, each once; a key with a NULL refers to nothing."""
    with session.cursor("carveout_references") as cursor:
        cursor.execute(
            sql.SQL("SELECT DISTINCT {} FROM {} AS t WHERE {}").format(
                _texts(reference.columns), sql.Identifier(*reference.table), _not_null(reference.columns)
            )
        )
        while keys := cursor.fetchmany(_BATCH):
            yield keys


def _missing(session: Connection, reference: Reference, keys: Sequence[_Key]) -> list[_Key]:
    """Those of ``keys`` that are not in the table that is referred to."""
    return _asked(session, reference.references, reference.referenced_columns, keys, "NOT EXISTS")


def _referring(session: Connection, reference: Reference, keys: Sequence[_Key]) -> list[_Key]:
    """Those of ``keys`` that a row refers to."""
    return _asked(session, reference.table, reference.columns, keys, "EXISTS")


def _asked(
    session: Connection, table: TableName, columns: Sequence[str], keys: Sequence[_Key], how: str
) -> list[_Key]:  # fmt: skip
    if not keys:
        return []
    types: dict[str, str] = dict(session.execute(_SQL["types"], tuple(table)).fetchall())
    names = [sql.Identifier(f"k{number}") for number in range(len(columns))]
    match = sql.SQL(" AND ").join(
        sql.SQL("t.{} = k.{}::{}").format(sql.Identifier(column), name, sql.SQL(types.get(column, "text")))
        for column, name in zip(columns, names, strict=True)
    )
    query = sql.SQL("SELECT {} FROM ROWS FROM (unnest({})) AS k ({}) WHERE {} (SELECT FROM {} AS t WHERE {})").format(
        sql.SQL(", ").join(names), sql.SQL(", ").join([sql.SQL("%s::text[]")] * len(names)), sql.SQL(", ").join(names),
        sql.SQL(how), sql.Identifier(*table), match,
    )  # fmt: skip
    return session.execute(query, [list(column) for column in zip(*keys, strict=True)]).fetchall()


def _texts(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(column)) for column in columns)


def _not_null(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(" AND ").join(sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(column)) for column in columns)


def _limit(session: Connection, limits: Limits) -> None:
    timeout = f"{max(1, int(limits.statement_s * 1000))}ms"
    session.execute("SELECT set_config('statement_timeout', %s, false)", (timeout,))
