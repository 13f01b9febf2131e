"""Views over moved tables, materialized ones too, at any depth: readable until ``complete`` drops the tables."""

from __future__ import annotations

from collections.abc import Iterator

from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, statement, warning

_SQL = sqlfiles.load("migrator.checks.tables", "views.sql")


def check(environment: Environment) -> Iterator[Finding]:
    for view, materialized, tables in environment.rows(Side.SHARED, _SQL["over"], [environment.oids(Side.SHARED)]):
        kind = "materialized view" if materialized else "view"
        message = (
            f"is a {kind} over {', '.join(tables)}: it stays fresh after the switch, and is in the way of complete"
        )
        drop = "DROP MATERIALIZED VIEW {}" if materialized else "DROP VIEW {}"
        fix = "-- move what reads it to the service, then, before complete:\n"
        yield warning(Side.SHARED, TableName(*view), message, fix + statement(drop, TableName(*view)))
