"""Rows against rows: which keys differ, in which class and in which columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from psycopg import sql

from contexts.catalog import Table
from validations.diff import rowhash
from validations.diff.model import Difference, Key, Kind
from validations.diff.sessions import Pair, Query, Rows
from validations.diff.subject import Subject

KEYS_AT_ONCE = 1_000


def compare(open_rows: Rows, closed_rows: Rows) -> list[Difference]:
    """The differing keys among rows of (key, hash), in the order of their keys' text.

    A key may repeat where a side has no unique index yet: each surplus row counts.
    """
    ours, theirs = (Counter((tuple(key), row_hash) for key, row_hash in rows) for rows in (open_rows, closed_rows))
    only_open, only_closed = _by_key(ours - theirs), _by_key(theirs - ours)
    return [
        _classed(key, only_open.get(key, 0), only_closed.get(key, 0))
        for key in sorted(only_open.keys() | only_closed.keys())
    ]


def named(
    pair: Pair, subject: Subject, differences: Iterable[Difference], *, values: bool, deadline: float | None = None
) -> Iterator[Difference]:
    """The differences with the columns that differ, and their values where asked for.

    :raises TimeOver: the deadline (monotonic clock) has passed.
    """
    rest = iter(differences)
    while batch := list(islice(rest, KEYS_AT_ONCE)):
        keys = [d.key for d in batch if d.kind is Kind.DIFFERENT]
        columns = _columns(pair, subject, keys, values, deadline) if keys else {}
        for difference in batch:
            yield replace(difference, **columns.get(difference.key, {}))


def _by_key(surplus: Counter[tuple[Key, int]]) -> Counter[Key]:
    found: Counter[Key] = Counter()
    for (key, _), count in surplus.items():
        found[key] += count
    return found


def _classed(key: Key, on_open: int, on_closed: int) -> Difference:
    if on_open and on_closed:
        return Difference(key, Kind.DIFFERENT, count=max(on_open, on_closed))
    kind = Kind.MISSING_ON_CLOSED if on_open else Kind.MISSING_ON_OPEN
    return Difference(key, kind, count=on_open or on_closed)


def _columns(
    pair: Pair, subject: Subject, keys: Sequence[Key], values: bool, deadline: float | None
) -> dict[Key, dict[str, Any]]:
    source, parameters = subject.keys(keys)
    hashes = sql.SQL(", ").join(subject.hash.column(p) for p in subject.pairs)
    texts = sql.SQL(", ").join(rowhash.value_text(p) for p in subject.pairs)
    shown = sql.SQL("ARRAY[{}]::text[]").format(texts) if values else sql.SQL("NULL")

    def query(table: Table) -> Query:
        join = subject.join(table)
        return subject.statement(
            "keyed_columns", table, keys=source, join=join, hashes=hashes, values=shown
        ), parameters

    found = pair.ask(subject, query, deadline=deadline)
    ours, theirs = ({tuple(row[0]): row[1:] for row in rows} for rows in found)
    return {key: _differing(subject, ours[key], theirs[key]) for key in ours.keys() & theirs.keys()}


def _differing(subject: Subject, ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> dict[str, Any]:
    places = [n for n, (one, other) in enumerate(zip(ours[0], theirs[0], strict=True)) if one != other]
    found: dict[str, Any] = {"columns": tuple(subject.pairs[n].name for n in places)}
    if ours[1] is not None:
        found["open_values"] = tuple(ours[1][n] for n in places)
        found["closed_values"] = tuple(theirs[1][n] for n in places)
    return found
