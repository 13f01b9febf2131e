"""The SQL of one table's changes, composed from quoted names; values are always parameters or COPY data.

Parameters are written ``$1``: these statements run on raw cursors, so a percent sign in a name means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import sql

from cdc.apply.plan import Places, Plan
from cdc.apply.target import Operator

OLD, NEW = sql.Identifier("t"), sql.Identifier("s")


def table(plan: Plan) -> sql.Composable:
    """The table for UPDATE, DELETE and SELECT: without inheriting tables, which have changes of their own."""
    name = plan.target.table.identifier()
    return name if plan.target.table.kind == "p" else sql.SQL("ONLY {}").format(name)


def column(plan: Plan, place: int) -> sql.Identifier:
    """The column at ``place``, quoted."""
    return sql.Identifier(plan.name(place))


def columns(plan: Plan, places: Places) -> sql.Composable:
    """A list of columns."""
    return _commas(column(plan, place) for place in places)


def parameter(plan: Plan, place: int, number: int) -> sql.Composable:
    """Parameter ``number`` as a value of the column's type; a domain or typmod is checked when it is stored."""
    return sql.SQL("${}::").format(sql.SQL(str(number))) + sql.SQL(plan.target.casts[plan.name(place)])


def equal(left: sql.Composable, right: sql.Composable, operator: Operator | None) -> sql.Composable:
    """Equality by ``operator``; without one by the text that the type's output function writes (a cast to text
    is another thing: it trims char(n) and writes booleans in full), byte by byte whatever the column's collation."""
    if operator is None:
        return sql.SQL("{} = {}").format(_as_text(left), _as_text(right))
    named = sql.Identifier(operator.schema), sql.SQL(operator.name)
    return sql.SQL("{} OPERATOR({}.{}) {}").format(left, *named, right)


def _as_text(value: sql.Composable) -> sql.Composable:
    return sql.SQL("pg_catalog.format('%s', {}) COLLATE pg_catalog.\"C\"").format(value)


def copy_in(name: sql.Composable, names: sql.Composable) -> sql.Composed:
    """COPY into a table."""
    return sql.SQL("COPY {} ({}) FROM STDIN").format(name, names)


# -- sets of rows, through a staging table whose columns are named c0, c1, ... by place --------------------------


def stage(plan: Plan, name: sql.Identifier, places: Places) -> sql.Composed:
    """Create the staging table: AS SELECT keeps types, modifiers and collations and leaves the constraints out."""
    chosen = _commas(sql.SQL("{} AS {}").format(column(plan, place), staged(place)) for place in places)
    return sql.SQL(
        "CREATE TEMPORARY TABLE {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA"
    ).format(name, chosen, table(plan))  # fmt: skip


def staged(place: int) -> sql.Identifier:
    """The staging column of ``place``."""
    return sql.Identifier(f"c{place}")


def delete_staged(plan: Plan, staging: sql.Composable) -> sql.Composed:
    """Delete the rows whose keys are staged."""
    return sql.SQL("DELETE FROM {} AS t USING {} AS s WHERE {}").format(
        table(plan), staging, _match_staged(plan, plan.key)
    )


def update_staged(plan: Plan, staging: sql.Composable, places: Places) -> sql.Composed:
    """Set ``places`` of the rows whose keys are staged; with nothing to set, only count them."""
    match = _match_staged(plan, plan.key + plan.fixed)
    if not places:
        return sql.SQL("SELECT FROM {} AS t, {} AS s WHERE {}").format(table(plan), staging, match)
    pairs = _commas(sql.SQL("{} = s.{}").format(column(plan, place), staged(place)) for place in places)
    return sql.SQL("UPDATE {} AS t SET {} FROM {} AS s WHERE {}").format(table(plan), pairs, staging, match)


def _match_staged(plan: Plan, places: Places) -> sql.Composable:
    return _all(
        equal(
            sql.SQL("{}.{}").format(OLD, column(plan, place)),
            sql.SQL("{}.{}").format(NEW, staged(place)),
            plan.operator(place),
        )
        for place in places
    )


# -- one row ----------------------------------------------------------------------------------------------------


def insert(plan: Plan) -> sql.Composed:
    """Insert one row; parameters are the stored columns."""
    return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
        plan.target.table.identifier(), columns(plan, plan.stored), _parameters(plan, plan.stored, 1)
    )


def delete(plan: Plan, match: Places, nulls: Places) -> sql.Composed:
    """Delete by key or by whole row; parameters are ``match``."""
    return sql.SQL("DELETE FROM {} AS t WHERE {}").format(table(plan), _where(plan, match, nulls, 1))


def update(plan: Plan, places: Places, match: Places, nulls: Places) -> sql.Composed:
    """Set ``places``, found by ``match``; parameters are the one, then the other."""
    where = _where(plan, match, nulls, len(places) + 1)
    if not places:
        return sql.SQL("SELECT FROM {} AS t WHERE {}").format(table(plan), where)
    pairs = _commas(
        sql.SQL("{} = {}").format(column(plan, place), parameter(plan, place, number))
        for number, place in enumerate(places, 1)
    )
    return sql.SQL("UPDATE {} AS t SET {} WHERE {}").format(table(plan), pairs, where)


def replace(plan: Plan, places: Places, match: Places, nulls: Places) -> sql.Composed:
    """Take a row out and put it in again with ``places`` set and everything else kept; parameters as in update."""
    kept = [plan.name(place) for place in plan.stored if place not in places] + list(plan.extras)
    names = [plan.name(place) for place in places] + kept
    values = [parameter(plan, place, number) for number, place in enumerate(places, 1)]
    values += [sql.SQL("old.{}").format(sql.Identifier(name)) for name in kept]
    return sql.SQL(
        "WITH old AS (DELETE FROM {} AS t WHERE {} RETURNING *)"
        " INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM old"
    ).format(
        table(plan), _where(plan, match, nulls, len(places) + 1), plan.target.table.identifier(),
        _commas(map(sql.Identifier, names)), _commas(values),
    )  # fmt: skip


def _where(plan: Plan, match: Places, nulls: Places, first: int) -> sql.Composable:
    """Find the row: all that the key names, or one (never more) of those that have all the values."""
    conditions: list[sql.Composable] = [sql.SQL("{}.{} IS NULL").format(OLD, column(plan, place)) for place in nulls]
    for number, place in enumerate(match, first):
        own = sql.SQL("{}.{}").format(OLD, column(plan, place))
        conditions.append(equal(own, parameter(plan, place, number), plan.operator(place)))
    if plan.is_keyed:
        return _all(conditions)
    one = sql.SQL("(t.tableoid, t.ctid) = (SELECT t.tableoid, t.ctid FROM {} AS t WHERE {} LIMIT 1)")
    return one.format(table(plan), _all(conditions))


def current(plan: Plan, places: Places) -> sql.Composed:
    """Read ``places`` of the rows whose keys are given: one array of texts for each column of the key.

    unnest stands there without its schema: only so it takes several arrays.
    """
    keys = [sql.Identifier(f"k{number}") for number in range(1, len(plan.key) + 1)]
    arrays = _commas(sql.SQL("${}::pg_catalog.text[]").format(sql.SQL(str(n))) for n in range(1, len(keys) + 1))
    match = _all(
        equal(
            sql.SQL("{}.{}").format(OLD, column(plan, place)),
            sql.SQL("k.{}::").format(key) + sql.SQL(plan.target.casts[plan.name(place)]),
            plan.operator(place),
        )
        for place, key in zip(plan.key, keys, strict=True)
    )
    chosen = _commas(sql.SQL("{}.{}").format(OLD, column(plan, place)) for place in places)
    return sql.SQL("SELECT {} FROM {} AS t, ROWS FROM (unnest({})) AS k ({}) WHERE {}").format(
        chosen, table(plan), arrays, _commas(keys), match
    )


# -- whole tables -----------------------------------------------------------------------------------------------


def truncate(plans: Sequence[Plan]) -> sql.Composed:
    """Empty exactly these tables in one statement; sequences stay, a switch carries them."""
    return sql.SQL("TRUNCATE {} CONTINUE IDENTITY RESTRICT").format(_commas(table(plan) for plan in plans))


def empty(plan: Plan) -> sql.Composed:
    """Delete every row: for tables that a foreign key of another table keeps from being truncated."""
    return sql.SQL("DELETE FROM {}").format(table(plan))


def _parameters(plan: Plan, places: Places, first: int) -> sql.Composable:
    return _commas(parameter(plan, place, number) for number, place in enumerate(places, first))


def _commas(parts: Iterable[sql.Composable]) -> sql.Composable:
    return sql.SQL(", ").join(parts)


def _all(conditions: Iterable[sql.Composable]) -> sql.Composable:
    return sql.SQL(" AND ").join(conditions)
