"""Partitioned tables move whole: the root is declared, and every leaf is a table of this database."""

from __future__ import annotations

from collections.abc import Iterator

from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement

_SQL = sqlfiles.load("migrator.checks.tables", "partitions.sql")


def check(environment: Environment) -> Iterator[Finding]:
    tables = environment.oids(Side.SHARED)
    for leaf, parent in environment.rows(Side.SHARED, _SQL["parents_that_stay"], {"tables": tables}):
        message = f"is a partition of {TableName(*parent)}, which stays"
        fix = f"declare the partitioned table {TableName(*parent)} in {environment.context_file} instead"
        yield blocker(Side.SHARED, TableName(*leaf), message, fix)
    for leaf, parent in environment.rows(Side.SHARED, _SQL["foreign_leaves"], {"tables": tables}):
        fix = statement("ALTER TABLE {} DETACH PARTITION {}", TableName(*parent), TableName(*leaf))
        message = f"is a partition of {TableName(*parent)} and a foreign table: its rows are elsewhere"
        yield blocker(Side.SHARED, TableName(*leaf), message, fix)
    for leaf, parent in environment.rows(Side.SHARED, _SQL["half_detached"], {"tables": tables}):
        fix = statement("ALTER TABLE {} DETACH PARTITION {} FINALIZE", TableName(*parent), TableName(*leaf))
        yield blocker(Side.SHARED, TableName(*leaf), f"is half detached from {TableName(*parent)}", fix)
