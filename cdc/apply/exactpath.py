"""The exact path: one change, one statement, in the order of the source; whatever does not fit is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.abc import Buffer
from psycopg.adapt import Dumper

from cdc.apply import failures, statements
from cdc.apply.compact import RowChange, whole
from cdc.apply.plan import Places, Plan
from cdc.events import UNCHANGED, Delete, Insert, Missing, Row, Update, Value
from contexts.databases import Connection
from contexts.errors import StreamStopped

_COPY_KEY = sql.SQL(
    "INSERT INTO carveout.copy_key (context, table_schema, table_name, key)"
    " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
)


class _PostgresText(Dumper):
    """Sends bytes as the text of whatever type the statement casts them to."""

    oid = 0

    def dump(self, obj: Any) -> Buffer | None:
        found: bytes = obj
        return found


class ExactPath:
    """Writes single changes over one connection."""

    def __init__(self, conn: Connection, context: str) -> None:
        self._cursor = psycopg.RawCursor(conn)
        self._cursor.adapters.register_dumper(bytes, _PostgresText)
        self._context = context
        self._statements: dict[tuple[object, ...], bytes] = {}

    def write(self, plan: Plan, change: RowChange) -> None:
        """Write one change.

        :raises StreamStopped: its row is missing or there twice, or the table refuses the values.
        :raises CarveoutError: the server failed.
        """
        try:
            match change:
                case Insert():
                    self._insert(plan, change.new)
                case Update():
                    self._update(plan, change)
                case Delete():
                    self._delete(plan, change.old)
        except psycopg.Error as error:
            raise self._refused(plan, change, error) from None

    def _insert(self, plan: Plan, new: Row) -> None:
        if not plan.is_strict:
            self._remove(plan, new)
        self._run(plan, ("insert",), lambda: statements.insert(plan), _values(plan, new, plan.stored))

    def _remove(self, plan: Plan, old: Row) -> int:
        match, nulls = _found_by(plan, old)
        build = lambda: statements.delete(plan, match, nulls)  # noqa: E731  # runs now or never
        return self._run(plan, ("delete", match), build, _values(plan, old, match))

    def _delete(self, plan: Plan, old: Row) -> None:
        self._expect_one(plan, self._remove(plan, old), old, "delete")

    def _update(self, plan: Plan, change: Update) -> None:
        new = whole(plan, change)
        old = new if change.old is None else change.old
        if plan.is_keyed and plan.key_of(old) != plan.key_of(new):
            self._move(plan, old, new)
        else:
            kind = "replace" if plan.fixed else "update"
            self._expect_one(plan, self._set(plan, kind, old, new), old, "update")

    def _move(self, plan: Plan, old: Row, new: Row) -> None:
        """Give a row another key, keeping what the stream does not carry."""
        if not plan.is_strict:
            self._remove(plan, new)
        met = self._set(plan, "replace", old, new)
        if met == 1 or plan.is_strict:
            self._expect_one(plan, met, old, "update")
        elif UNCHANGED not in new:
            self._insert(plan, new)
        else:
            self._bring_later(plan, new)

    def _set(self, plan: Plan, kind: str, old: Row, new: Row) -> int:
        candidates = plan.stored if kind == "replace" else plan.settable
        places = tuple(place for place in candidates if new[place] is not UNCHANGED)
        match, nulls = _found_by(plan, old)
        compose = statements.replace if kind == "replace" else statements.update
        values = _values(plan, new, places) + _values(plan, old, match)
        return self._run(plan, (kind, places, match), lambda: compose(plan, places, match, nulls), values)

    def _bring_later(self, plan: Plan, new: Row) -> None:
        """The row came out of a range that is not copied, and the stream lacks values: the next cycle brings it."""
        key = [None if value is None else value.decode() for value in _values(plan, new, plan.key)]
        self._cursor.execute(_COPY_KEY, (self._context, *plan.relation.table, key))

    def _run(
        self, plan: Plan, kind: tuple[object, ...], build: Callable[[], sql.Composed], values: Sequence[bytes | None]
    ) -> int:
        query = self._statements.get((plan, *kind))
        if query is None:
            query = self._statements[(plan, *kind)] = build().as_bytes(self._cursor)
        return self._cursor.execute(query, values).rowcount

    def _expect_one(self, plan: Plan, met: int, old: Row, verb: str) -> None:
        if met == 1 or (met == 0 and not plan.is_strict):
            return
        key = plan.described(plan.key_of(old))
        raise StreamStopped(
            f"context {self._context!r}: {verb} of {key}: {'no row' if met == 0 else f'{met} rows'} there",
            unchanged=failures.UNCHANGED,
            next_step=f"carveout verify {self._context}",
        )

    def _refused(self, plan: Plan, change: RowChange, error: psycopg.Error) -> Exception:
        row = change.old if isinstance(change, Delete) else change.new
        what = f"{type(change).__name__.lower()} of {plan.described(plan.key_of(row))}"
        if isinstance(error, errors.UniqueViolation):
            what += ", a value of which is there already"
        return failures.named(error, self._context, what)


def _found_by(plan: Plan, old: Row) -> tuple[Places, Places]:
    """The places to compare and the places that must be NULL: the key, or the whole row."""
    places = plan.key or plan.stored
    nulls = () if plan.key else tuple(place for place in places if old[place] is None)
    return tuple(place for place in places if place not in nulls), nulls


def _values(plan: Plan, row: Row, places: Places) -> tuple[bytes | None, ...]:
    return tuple(_present(plan, place, row[place]) for place in places)


def _present(plan: Plan, place: int, value: Value) -> bytes | None:
    if isinstance(value, Missing):
        raise StreamStopped(
            f"table {plan.relation.table}: column {plan.name(place)!r} has no value in the stream ({value!r})",
            unchanged=failures.UNCHANGED,
            next_step="check the replica identity of the table and the settings of the source",
        )
    return value
