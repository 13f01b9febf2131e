"""Each side has connections free for the copy's workers, the stream and the command line."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts import sqlfiles
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement

#: Beside the copy's workers: applying, watching, the snapshot's keeper, the switch, and two commands.
BESIDE_COPY = 6
_SQL = sqlfiles.load("migrator.checks.server", "connections.sql")


def check(environment: Environment) -> Iterator[Finding]:
    needed = environment.context.options.copy_workers + BESIDE_COPY
    if environment.same_server:
        needed *= 2
    for side in Side:
        for scope, name, limit, used in environment.rows(side, _SQL["limits"]):
            if limit - used < needed:
                message = f"{used} of {limit} connections are in use, {needed} more are needed"
                yield blocker(side, f"{scope} {name}".strip(), message, _fix(scope, name, used + needed))


def _fix(scope: str, name: str, limit: int) -> str:
    wanted = sql.Literal(limit)
    if scope == "role":
        return statement("ALTER ROLE {} CONNECTION LIMIT {}", name, wanted)
    if scope == "database":
        return statement("ALTER DATABASE {} CONNECTION LIMIT {}", name, wanted)
    return statement("ALTER SYSTEM SET max_connections = {}", wanted) + "\n-- then restart the server"
