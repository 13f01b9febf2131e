"""The fast path: the net effect of many changes of a table as a few statements over sets of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import psycopg
from psycopg import sql

from cdc.apply import statements
from cdc.apply.compact import Kept, Net
from cdc.apply.copytext import blocks
from cdc.apply.plan import Key, Places, Plan, picker
from cdc.events import UNCHANGED, Row, Value
from cdc.source import packed
from contexts.databases import Connection


class Unexpected(Exception):
    """A statement did not meet exactly the rows it names; the exact path finds out which."""


@dataclass
class Staging:
    """Temporary tables by table and set of columns, made when first needed and emptied at each commit."""

    cursor: psycopg.RawCursor[tuple[object, ...]]
    _names: dict[tuple[Plan, Places], str] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)
    _made: int = 0

    def fill(self, plan: Plan, places: Places, rows: Iterable[Sequence[Value]]) -> tuple[sql.Composable, int]:
        """Put ``rows`` (one value per place) into the staging table; returns its name and how many they were."""
        made = self._names.get((plan, places)) or self._make(plan, places)
        name = sql.Identifier("pg_temp", made)
        if made in self._used:
            self.cursor.execute(sql.SQL("TRUNCATE {}").format(name))
        self._used.add(made)
        names = sql.SQL(", ").join(map(statements.staged, places))
        return name, copy_rows(self.cursor, statements.copy_in(name, names), rows)

    def mark(self) -> int:
        """A moment for :meth:`roll_back_to`."""
        return len(self._names)

    def roll_back_to(self, mark: int) -> None:
        """Forget the tables that were made since ``mark``: the savepoint took them along."""
        for key in list(self._names)[mark:]:
            del self._names[key]

    def committed(self) -> None:
        """The commit emptied all of them."""
        self._used.clear()

    def _make(self, plan: Plan, places: Places) -> str:
        self._made += 1
        name = self._names[plan, places] = f"carveout_{self._made}"
        self.cursor.execute(statements.stage(plan, sql.Identifier("pg_temp", name), places))
        return name


class FastPath:
    """Writes net effects over one connection; the caller holds the savepoint."""

    def __init__(self, conn: Connection) -> None:
        self._cursor = psycopg.RawCursor(conn)
        self.staging = Staging(self._cursor)

    def write(self, plan: Plan, net: Net) -> None:
        """Delete, update, insert: in this order values that moved between rows are free when they are needed.

        :raises Unexpected: a row is missing or doubled; the caller must roll back to its savepoint.
        :raises psycopg.IntegrityError: rows meet in mid-way, as when two rows exchange a unique value.
        """
        keys = net.deletes if plan.is_strict else {**net.deletes, **net.inserts}
        if keys:
            self._delete(plan, keys)
        if net.updates:
            self._update_all(plan, net.updates.values())
        if net.inserts:
            self._insert(plan, net.inserts.values())

    def _delete(self, plan: Plan, keys: Mapping[Key, object]) -> None:
        name, count = self.staging.fill(plan, plan.key, map(plan.key_values, keys))
        self._cursor.execute(statements.delete_staged(plan, name))
        self._expect(plan, count)

    def _update_all(self, plan: Plan, updates: Iterable[Kept]) -> None:
        """Rows with all their values first, then those with the same holes together."""
        others: dict[frozenset[int], list[Row]] = {}
        self._update(plan, frozenset(), _whole(_rows(plan, updates), others))
        for holes, rows in others.items():
            self._update(plan, holes, rows)

    def _update(self, plan: Plan, holes: frozenset[int], rows: Iterable[Row]) -> None:
        places = tuple(place for place in plan.settable if place not in holes)
        staged = tuple(sorted(plan.key + plan.fixed + places))
        name, count = self.staging.fill(plan, staged, _picked(plan, staged, rows))
        if count:
            self._cursor.execute(statements.update_staged(plan, name, places))
            self._expect(plan, count)

    def _insert(self, plan: Plan, rows: Iterable[Kept]) -> None:
        statement = statements.copy_in(plan.target.table.identifier(), statements.columns(plan, plan.stored))
        copy_rows(self._cursor, statement, _picked(plan, plan.stored, _rows(plan, rows)))

    def _expect(self, plan: Plan, rows: int) -> None:
        if plan.is_strict and self._cursor.rowcount != rows:
            raise Unexpected(f"{plan.relation.table}: {self._cursor.rowcount} rows met instead of {rows}")


def copy_rows(
    cursor: psycopg.RawCursor[tuple[object, ...]], statement: sql.Composed, rows: Iterable[Sequence[Value]]
) -> int:
    """Run a COPY FROM STDIN with ``rows`` and return how many the server took."""
    with cursor.copy(statement) as copy:
        for block in blocks(rows):
            copy.write(block)
    return cursor.rowcount


def _rows(plan: Plan, kept: Iterable[Kept]) -> Iterable[Row]:
    """The rows, unpacked one by one: they need no memory at the same time."""
    for kind, some in groupby(kept, type):
        if kind is bytes:
            yield from packed.rows(some, plan.relation)  # type: ignore[arg-type]
        else:
            yield from some  # type: ignore[misc]


def _picked(plan: Plan, places: Places, rows: Iterable[Row]) -> Iterable[Sequence[Value]]:
    pick = picker(places, len(plan.relation.columns))
    return map(pick, rows) if pick else rows


def _whole(rows: Iterable[Row], others: dict[frozenset[int], list[Row]]) -> Iterator[Row]:
    """The rows without unchanged values; the other ones go to ``others``, by the places of those."""
    for row in rows:
        if UNCHANGED not in row:
            yield row
        else:
            holes = frozenset(place for place, value in enumerate(row) if value is UNCHANGED)
            others.setdefault(holes, []).append(row)
