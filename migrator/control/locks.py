"""Session-level advisory locks in the shared database: one driver and one worker per context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from contexts.databases import Connection, Database
from contexts.errors import RefusedError


@contextmanager
def exclusive(shared: Database, context: str, role: str) -> Iterator[Connection]:
    """Hold the context's lock for ``role`` ("driver" or "worker") while the block runs.

    The lock dies with its session, so a killed process leaves nothing behind.

    :raises RefusedError: another process holds it; the message names that one.
    """
    with shared.connect(f"{role}-lock/{context}") as conn:
        name = f"carveout:{role}:{context}"
        row = conn.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)).fetchone()
        if not (row and row[0]):
            raise RefusedError(
                f"context {context!r}: another {role} is at work ({_holder(conn, name)})",
                unchanged="nothing was changed",
                next_step=f"wait for it, or carveout status {context}",
            )
        yield conn


def is_held(conn: Connection, context: str, role: str) -> bool:
    """Whether some process holds the context's lock for ``role``."""
    return _lock_row(conn, f"carveout:{role}:{context}") is not None


def _holder(conn: Connection, name: str) -> str:
    row = _lock_row(conn, name)
    return f"server process {row[0]}, role {row[1]}, since {row[2]:%Y-%m-%d %H:%M:%S}" if row else "just gone"


def _lock_row(conn: Connection, name: str) -> tuple[object, ...] | None:
    # A bigint advisory lock shows its key's halves as classid and objid, with objsubid 1 (pg_locks documentation).
    return conn.execute(
        "SELECT a.pid, a.usename, a.backend_start FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (l.classid::int8 << 32 | l.objid::int8) = hashtextextended(%s, 0)",
        (name,),
    ).fetchone()
