"""No prepared transaction is forgotten, and the service side can prepare the transactions of lockstep."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts import sqlfiles
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, info, statement, warning

_SQL = sqlfiles.load("migrator.checks.server", "prepared_transactions.sql")


def check(environment: Environment) -> Iterator[Finding]:
    [limit] = environment.row(Side.SERVICE, sql.SQL("SELECT current_setting('max_prepared_transactions')::int"))
    if limit == 0:
        fix = "ALTER SYSTEM SET max_prepared_transactions = 100;\n-- then restart the server"
        yield info(Side.SERVICE, "max_prepared_transactions", "is 0: lockstep (dual writes) cannot be used", fix)
    for side in Side:
        for gid, database, age, touched in environment.rows(side, _SQL["prepared"], [environment.oids(side)]):
            fix = _fix(gid, database)
            if touched:
                message = f"prepared {age} s ago, holds locks on {', '.join(touched)}: the tables cannot be fenced"
                yield blocker(side, f"transaction {gid}", message, fix)
            else:
                message = f"prepared {age} s ago in {database}: a new slot waits for it"
                yield warning(side, f"transaction {gid}", message, fix)


def _fix(gid: str, database: str) -> str:
    end = [statement(template, sql.Literal(gid)) for template in ("COMMIT PREPARED {}", "ROLLBACK PREPARED {}")]
    return f"-- in database {database}, one of:\n" + "\n".join(end)
