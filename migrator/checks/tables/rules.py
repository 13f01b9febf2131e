"""No rule rewrites what is written to a moved table, here or on the service side."""

from __future__ import annotations

from collections.abc import Iterator

from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement, warning

_SQL = sqlfiles.load("migrator.checks.tables", "rules.sql")


def check(environment: Environment) -> Iterator[Finding]:
    for side in Side:
        for table, name, enabled in environment.rows(side, _SQL["rules"], [environment.oids(side)]):
            if enabled in ("A", "R"):
                message = f"rule {name} also rewrites what the stream applies (ENABLE ALWAYS or REPLICA)"
                fix = statement("ALTER TABLE {} ENABLE RULE {}", TableName(*table), name)
                yield blocker(side, TableName(*table), message, fix)
            elif side is Side.SHARED:
                message = f"rule {name} rewrites statements on it; the service side needs the same, or a trigger"
                yield warning(
                    side, TableName(*table), message, statement("DROP RULE {} ON {}", name, TableName(*table))
                )
