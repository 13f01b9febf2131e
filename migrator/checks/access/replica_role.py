"""Our role may set session_replication_role: without it, triggers and foreign keys would fire twice."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from contexts.databases import Connection
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement


def check(environment: Environment) -> Iterator[Finding]:
    for side in Side:
        if _settable(environment.connection(side)):
            continue
        mover = environment.mover(side)
        fix = statement("ALTER ROLE {} SUPERUSER", mover)
        if environment.major(side) >= 15:
            fix = statement("GRANT SET ON PARAMETER session_replication_role TO {}", mover)
        yield blocker(side, f"role {mover}", "may not set session_replication_role, which applying changes needs", fix)


def _settable(conn: Connection) -> bool:
    # Tried rather than asked: hosted servers allow it in ways of their own. It ends with the transaction.
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(sql.SQL("SET LOCAL session_replication_role = replica"))
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
