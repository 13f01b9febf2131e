"""No old transaction holds up the creation of a slot, which waits for everything that runs when it begins."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts import sqlfiles
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, statement, warning

LONG_S = 60.0
IDLE_S = 5.0
_SQL = sqlfiles.load("migrator.checks.server", "transactions.sql")


def check(environment: Environment) -> Iterator[Finding]:
    for side in Side:
        if not environment.row(side, _SQL["sees_others"])[0]:
            message = "may not see what other sessions do, so long transactions stay unseen"
            mover = environment.mover(side)
            yield warning(side, f"role {mover}", message, statement("GRANT pg_read_all_stats TO {}", mover))
            continue
        for pid, role, database, application, state, age in environment.rows(
            side, _SQL["blocking"], {"long": LONG_S, "idle": IDLE_S}
        ):
            message = f"{role} ({application or 'no application_name'}) in {database}: {state} for {age} s, with writes"
            message += ": a new slot would wait for it"
            fix = statement("SELECT pg_catalog.pg_terminate_backend({})", sql.Literal(pid))
            yield warning(side, f"process {pid}", message, fix)
