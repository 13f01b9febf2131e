"""The fast path: the net effect of many changes of a table as a few statements over sets of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from cdc.apply import statements
from cdc.apply.compact import Net
from cdc.apply.copytext import blocks
from cdc.apply.plan import Key, Places, Plan, picker
from cdc.events import UNCHANGED, Row, Value
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

    def fill(self, plan: Plan, places: Places, rows: Iterable[Sequence[Value]]) -> sql.Composable:
        """Put ``rows`` (one value per place) into the staging table and return its name."""
        made = self._names.get((plan, places)) or self._make(plan, places)
        name = sql.Identifier("pg_temp", made)
        if made in self._used:
            self.cursor.execute(sql.SQL("TRUNCATE {}").format(name))
        self._used.add(made)
        names = sql.SQL(", ").join(map(statements.staged, places))
        copy_rows(self.cursor, statements.copy_in(name, names), rows)
        return name

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
            for holes, rows in _by_holes(net.updates).items():
                self._update(plan, holes, rows)
        if net.inserts:
            self._insert(plan, net.inserts.values())

    def _delete(self, plan: Plan, keys: Mapping[Key, object]) -> None:
        rows = [plan.key_values(key) for key in keys]
        name = self.staging.fill(plan, plan.key, rows)
        self._cursor.execute(statements.delete_staged(plan, name))
        self._expect(plan, len(rows))

    def _update(self, plan: Plan, holes: frozenset[int], rows: Sequence[Row]) -> None:
        places = tuple(place for place in plan.settable if place not in holes)
        staged = tuple(sorted(plan.key + plan.fixed + places))
        name = self.staging.fill(plan, staged, _picked(plan, staged, rows))
        self._cursor.execute(statements.update_staged(plan, name, places))
        self._expect(plan, len(rows))

    def _insert(self, plan: Plan, rows: Iterable[Row]) -> None:
        statement = statements.copy_in(plan.target.table.identifier(), statements.columns(plan, plan.stored))
        copy_rows(self._cursor, statement, _picked(plan, plan.stored, rows))

    def _expect(self, plan: Plan, rows: int) -> None:
        if plan.is_strict and self._cursor.rowcount != rows:
            raise Unexpected(f"{plan.relation.table}: {self._cursor.rowcount} rows met instead of {rows}")


def copy_rows(
    cursor: psycopg.RawCursor[tuple[object, ...]], statement: sql.Composed, rows: Iterable[Sequence[Value]]
) -> None:
    """Run a COPY FROM STDIN with ``rows``."""
    with cursor.copy(statement) as copy:
        for block in blocks(rows):
            copy.write(block)


def _picked(plan: Plan, places: Places, rows: Iterable[Row]) -> Iterable[Sequence[Value]]:
    pick = picker(places, len(plan.relation.columns))
    return map(pick, rows) if pick else rows


def _by_holes(updates: Mapping[Key, Row]) -> dict[frozenset[int], list[Row]]:
    """The rows by the places of their unchanged values."""
    found: dict[frozenset[int], list[Row]] = {}
    plain = found.setdefault(frozenset(), [])
    for row in updates.values():
        if UNCHANGED not in row:
            plain.append(row)
        else:
            holes = frozenset(place for place, value in enumerate(row) if value is UNCHANGED)
            found.setdefault(holes, []).append(row)
    return {holes: rows for holes, rows in found.items() if rows}
