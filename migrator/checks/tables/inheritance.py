"""No moved table inherits (other than as a partition): rows would be seen through the parent and moved only once."""

from __future__ import annotations

from collections.abc import Iterator

from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement

_SQL = sqlfiles.load("migrator.checks.tables", "inheritance.sql")


def check(environment: Environment) -> Iterator[Finding]:
    for child, parent in environment.rows(Side.SHARED, _SQL["children"], {"tables": environment.oids(Side.SHARED)}):
        message = f"inherits from {TableName(*parent)}: table inheritance is not supported"
        fix = statement("ALTER TABLE {} NO INHERIT {}", TableName(*child), TableName(*parent))
        yield blocker(Side.SHARED, TableName(*child), message, fix)
