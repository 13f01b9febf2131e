"""No subscription writes the moved tables: rows from two streams would be mixed."""

from __future__ import annotations

from collections.abc import Iterator

from contexts import sqlfiles
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement

_SQL = sqlfiles.load("migrator.checks.state", "subscriptions.sql")


def check(environment: Environment) -> Iterator[Finding]:
    for side in Side:
        for name, tables in environment.rows(side, _SQL["writing"], [environment.oids(side)]):
            message = f"writes {', '.join(tables)}, which only the applications or our stream may write"
            yield blocker(side, f"subscription {name}", message, statement("ALTER SUBSCRIPTION {} DISABLE", name))
