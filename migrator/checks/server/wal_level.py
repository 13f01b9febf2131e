"""Both servers write WAL for logical decoding: the shared side for the way there, the service side for the way back."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker


def check(environment: Environment) -> Iterator[Finding]:
    for side in Side:
        [level] = environment.row(side, sql.SQL("SELECT current_setting('wal_level')"))
        if level != "logical":
            message = f"is {level}: " + ("no change stream" if side is Side.SHARED else "no way back after the cutover")
            fix = "ALTER SYSTEM SET wal_level = 'logical';\n-- then restart the server"
            yield blocker(side, "wal_level", message, fix)
