"""Tables whose rows are found by all their columns (REPLICA IDENTITY FULL) can do without: they are slow, or stuck."""

from __future__ import annotations

from collections.abc import Iterator

from contexts import sqlfiles
from contexts.catalog import Table
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement, warning

_SQL = sqlfiles.load("migrator.checks.tables", "full_identity.sql")


def check(environment: Environment) -> Iterator[Finding]:
    tables = [t for t in environment.tables(Side.SHARED).values() if t.replica_identity == "f" and t.kind == "r"]
    types = {c.element_oid or c.base_type_oid for table in tables for c in table.columns if c.base_kind == "b"}
    incomparable = {row[0] for row in environment.rows(Side.SHARED, _SQL["without_equality"], [list(types)])}
    for table in tables:
        if not table.primary_key:
            yield _without_key(table, incomparable)


def _without_key(table: Table, incomparable: set[int]) -> Finding:
    stuck = [c.name for c in table.columns if (c.element_oid or c.base_type_oid) in incomparable]
    fix = f"-- {statement('ALTER TABLE {} ADD PRIMARY KEY (...)', table.name)} with the columns that tell rows apart"
    if stuck:
        message = (
            f"has no primary key, and its rows cannot be found by all columns: {', '.join(stuck)} cannot be compared"
        )
        return blocker(Side.SHARED, table.name, message, fix)
    message = "has no primary key: rows are found by all their columns, which is slow, and a difference has no name"
    return warning(Side.SHARED, table.name, message, fix)
