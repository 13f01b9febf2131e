"""Application triggers exist on the service side as well, and none fires while the stream is applied."""

from __future__ import annotations

from collections.abc import Iterator

from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement, warning

_SQL = sqlfiles.load("migrator.checks.tables", "triggers.sql")


def check(environment: Environment) -> Iterator[Finding]:
    shared, service = (environment.rows(side, _SQL["triggers"], [environment.oids(side)]) for side in Side)
    there = {(tuple(row[0]), row[1]) for row in service}
    for table, name, _, function, definition in shared:
        if (tuple(table), name) not in there:
            message = f"trigger {name} ({function}) does not exist on the service side: what it does would not be done"
            fix = f"-- in a revision of the service database, after its function:\n{definition};"
            yield warning(Side.SHARED, TableName(*table), message, fix)
    for side, rows in ((Side.SHARED, shared), (Side.SERVICE, service)):
        for table, name, enabled, _, _ in rows:
            if enabled in ("A", "R"):
                message = f"trigger {name} fires for applied changes as well ({_WHEN[enabled]}): twice for one change"
                fix = statement("ALTER TABLE {} ENABLE TRIGGER {}", TableName(*table), name)
                yield blocker(side, TableName(*table), message, fix)


_WHEN = {"A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}
