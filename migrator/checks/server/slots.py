"""Each server has a replication slot and a WAL sender free for the stream, and one more of each for barriers."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts import sqlfiles
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement

NEEDED = 2
_SQL = sqlfiles.load("migrator.checks.server", "slots.sql")


def check(environment: Environment) -> Iterator[Finding]:
    sides = (Side.SHARED,) if environment.same_server else tuple(Side)
    needed = NEEDED * 2 // len(sides)
    for side in sides:
        for setting, limit, used, own in environment.rows(
            side, _SQL["capacity"], {"context": environment.context.name}
        ):
            missing = needed - own - (limit - used)
            if missing > 0:
                message = f"{used} of {limit} are in use, {needed - own} more are needed"
                alter = statement("ALTER SYSTEM SET {} = {}", setting, sql.Literal(limit + missing))
                yield blocker(side, setting, message, f"{alter}\n-- then restart the server")
