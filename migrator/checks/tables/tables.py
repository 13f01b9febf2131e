"""Every declared table is there, is a table, and is logged: nothing else can be published."""

from __future__ import annotations

from collections.abc import Iterator

from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement

_SQL = sqlfiles.load("migrator.checks.tables", "tables.sql")
_KINDS = {
    "v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "c": "a composite type",
    "i": "an index", "I": "an index",
}  # fmt: skip


def check(environment: Environment) -> Iterator[Finding]:
    declared = environment.context.table_names
    names = [[name.schema for name in declared], [name.name for name in declared]]
    kinds = {TableName(*row[:2]): row[2] for row in environment.rows(Side.SHARED, _SQL["kinds"], names)}
    for name in declared:
        if name not in kinds:
            yield _missing(environment, name)
        elif kinds[name] not in ("r", "p"):
            message = f"is {_KINDS.get(kinds[name], 'no table')}: only tables move"
            yield blocker(Side.SHARED, name, message, f"take it out of tables in {environment.context_file}")
    for *parts, persistence in environment.rows(Side.SHARED, _SQL["not_logged"], [environment.oids(Side.SHARED)]):
        name = TableName(*parts)
        message, fix = "is unlogged: its changes are in no stream", statement("ALTER TABLE {} SET LOGGED", name)
        if persistence == "t":
            message, fix = "is temporary", f"take it out of tables in {environment.context_file}"
        yield blocker(Side.SHARED, name, message, fix)


def _missing(environment: Environment, name: TableName) -> Finding:
    alike = [str(TableName(*row)) for row in environment.rows(Side.SHARED, _SQL["alike"], [name.name])]
    message = "does not exist in the shared database" + (f"; there is {', '.join(alike)}" if alike else "")
    return blocker(Side.SHARED, name, message, f"correct tables in {environment.context_file}")
