"""Row security hides no row from the copy, and its policies exist on the service side as well."""

from __future__ import annotations

from collections.abc import Iterator

from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement, warning

_SQL = sqlfiles.load("migrator.checks.tables", "row_security.sql")


def check(environment: Environment) -> Iterator[Finding]:
    policies = {side: _policies(environment, side) for side in Side}
    for side in Side:
        mover = environment.mover(side)
        for table, (bypassed, _) in policies[side].items():
            if not bypassed:
                message = f"has row security, which role {mover} does not bypass: copy and diff would fail"
                yield blocker(side, table, message, statement("ALTER ROLE {} BYPASSRLS", mover))
    for table, (_, there) in policies[Side.SHARED].items():
        here = policies[Side.SERVICE].get(table)
        if here is None or there - here[1]:
            missing = ", ".join(sorted(there - here[1] if here else there)) or "none"
            message = f"has row security, and not the same on the service side (policies missing there: {missing})"
            enable = statement("ALTER TABLE {} ENABLE ROW LEVEL SECURITY", table)
            yield warning(Side.SHARED, table, message, f"-- in a revision of the service, with its policies:\n{enable}")


def _policies(environment: Environment, side: Side) -> dict[TableName, tuple[bool, frozenset[str]]]:
    """Whether we bypass it, and the policies' names, for each table with row security."""
    rows = environment.rows(side, _SQL["secured"], [environment.oids(side)])
    return {TableName(*table): (bypassed, frozenset(names)) for table, bypassed, names in rows}
