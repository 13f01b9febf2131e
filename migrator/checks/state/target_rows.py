"""The service side's tables are empty as long as nothing was copied: rows already there would be doubled, or clash."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts.catalog import leaves
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement


def check(environment: Environment) -> Iterator[Finding]:
    if environment.started:
        return
    for table in leaves(environment.tables(Side.SERVICE).values()):
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(table.identifier())
        if environment.row(Side.SERVICE, query)[0]:
            message = "holds rows already, and no copy of this context has begun"
            fix = f"-- only if nobody needs these rows:\n{statement('TRUNCATE TABLE {}', table.name)}"
            yield blocker(Side.SERVICE, table.name, message, fix)
