"""Session-level advisory locks in the shared database: one driver and one worker per context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from contexts.databases import Connection, Database
from contexts.errors import CarveoutError, RefusedError

#: A server under load takes its time to see that a killed process is gone.
_PATIENCE = "1s"
#: The members of a group know of each other, and look again by themselves.
_GROUP_PATIENCE = "1ms"


class LockTaken(CarveoutError):
    """The lock was lost with its session, and another process holds it now; it may be our old session's end."""

    transient = True


class Lock:
    """The lock that this process holds; it dies with its session, so a killed process leaves nothing behind."""

    def __init__(self, shared: Database, context: str, role: str, *, group: str = "") -> None:
        """
        :param group: the holders of one group may end each other's sessions (:func:`end_another`), nobody else's.
        :raises RefusedError: another process holds it; the message names that one.
        """
        self._shared, self._context, self._role, self._group = shared, context, role, group
        #: The server process of the session that holds it.
        self.pid: int
        self._conn = self._take()

    def renew(self) -> None:
        """Take it again where its session was lost: with a crashed server, or ended by somebody.

        :raises LockTaken: another process was faster.
        :raises DatabaseUnreachable: the server is still away.
        """
        try:
            self._conn.execute("SELECT 1")
        except psycopg.OperationalError:
            self._conn.close()
            try:
                self._conn = self._take()
            except RefusedError as error:
                raise LockTaken(error.message, unchanged=error.unchanged, next_step=error.next_step) from None

    def close(self) -> None:
        """Give it back."""
        self._conn.close()

    def _take(self) -> Connection:
        patience = _GROUP_PATIENCE if self._group else _PATIENCE
        conn = self._shared.connect(f"{self._role}-lock/{self._context}", lock_timeout=patience)
        name = f"carveout:{self._role}:{self._context}"
        try:
            conn.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
        except psycopg.errors.LockNotAvailable:
            raise self._taken(conn, name) from None
        self.pid = conn.info.backend_pid
        if self._group:
            conn.execute("SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))", (_member(self._group),))
        return conn

    def _taken(self, conn: Connection, name: str) -> RefusedError:
        with conn:
            return RefusedError(
                f"context {self._context!r}: another {self._role} is at work ({_holder(conn, name)})",
                unchanged="nothing was changed",
                next_step=f"wait for it, or carveout status {self._context}",
            )


def end_another(shared: Database, context: str, role: str, group: str) -> bool:
    """End the session of a group's member that holds the lock; False where one outside of the group holds it."""
    with shared.connect(f"{role}-lock/{context}") as conn:
        pid = holder(conn, context, role)
        if pid is None:
            return True
        if pid not in {row[0] for row in _lock_rows(conn, _member(group))}:
            return False
        return conn.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,)).fetchone() == (True,)


@contextmanager
def exclusive(shared: Database, context: str, role: str) -> Iterator[Lock]:
    """Hold the context's lock for ``role`` ("driver" or "worker") while the block runs.

    :raises RefusedError: another process holds it; the message names that one.
    """
    lock = Lock(shared, context, role)
    try:
        yield lock
    finally:
        lock.close()


def is_held(conn: Connection, context: str, role: str) -> bool:
    """Whether some process holds the context's lock for ``role``."""
    return holder(conn, context, role) is not None


def holder(conn: Connection, context: str, role: str) -> int | None:
    """The server process of the session that holds the context's lock for ``role``."""
    found = _lock_row(conn, f"carveout:{role}:{context}")
    return int(str(found[0])) if found else None


def _holder(conn: Connection, name: str) -> str:
    row = _lock_row(conn, name)
    return f"server process {row[0]}, role {row[1]}, since {row[2]:%Y-%m-%d %H:%M:%S}" if row else "just gone"


def _member(group: str) -> str:
    return f"carveout:group:{group}"


def _lock_row(conn: Connection, name: str) -> tuple[object, ...] | None:
    return next(iter(_lock_rows(conn, name)), None)


def _lock_rows(conn: Connection, name: str) -> list[tuple[object, ...]]:
    # A bigint advisory lock shows its key's halves as classid and objid, with objsubid 1 (pg_locks documentation).
    return conn.execute(
        "SELECT a.pid, a.usename, a.backend_start FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (l.classid::int8 << 32 | l.objid::int8) = hashtextextended(%s, 0)",
        (name,),
    ).fetchall()
