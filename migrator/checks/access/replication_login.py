"""Our role may open a replication connection on both sides: tried, since roles and pg_hba.conf both decide."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
from psycopg import sql

from contexts.databases import Database
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement

_ATTRIBUTES = sql.SQL("SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user")


def check(environment: Environment) -> Iterator[Finding]:
    for side in Side:
        database = environment.databases[side]
        if reason := _refusal(database):
            mover = environment.mover(side)
            allowed = environment.row(side, _ATTRIBUTES)[0]
            fix = (
                "look at pg_hba.conf and max_wal_senders" if allowed else statement("ALTER ROLE {} REPLICATION", mover)
            )
            yield blocker(side, f"role {mover}", f"cannot open a replication connection: {reason}", fix)


def _refusal(database: Database) -> str:
    try:
        conninfo = database.conninfo("check")
        with closing(
            psycopg.connect(conninfo, replication="database", autocommit=True, prepare_threshold=None)
        ) as conn:
            conn.execute("IDENTIFY_SYSTEM")
    except psycopg.Error as error:
        return " ".join(str(error).split())
    return ""
