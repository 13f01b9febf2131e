"""The gate: a table per context whose lock new transactions of gated applications wait for.

A gated transaction begins with ``LOCK TABLE carveout.gate_<context> IN ACCESS SHARE MODE`` and then reads the
route. ``LOCK TABLE`` takes no snapshot, so the route is read as it is once the gate opens again, in every
isolation level. Closing takes ACCESS EXCLUSIVE: it waits for the gated transactions in flight, and new ones
wait for it. The lock ends with its session, so a killed driver leaves no closed gate behind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from cdc.names import gate_name
from contexts.databases import Connection, Database
from contexts.model import Side
from migrator.executor import Executor


def gate_table(context: str) -> sql.Identifier:
    """The gate's qualified name."""
    return sql.Identifier(*gate_name(context).split("."))


def create(executor: Executor, side: Side, context: str) -> None:
    """Make the gate; everybody may pass it."""
    executor.write(side, sql.SQL("CREATE TABLE IF NOT EXISTS {} ()").format(gate_table(context)))
    executor.write(side, sql.SQL("GRANT SELECT ON {} TO PUBLIC").format(gate_table(context)))


def drop(executor: Executor, side: Side, context: str) -> None:
    """Remove the gate."""
    executor.write(side, sql.SQL("DROP TABLE IF EXISTS {}").format(gate_table(context)))


class GateLock:
    """The closed gate: a lock of its own session, so a killed driver leaves no closed gate behind."""

    def __init__(self, database: Database, context: str) -> None:
        self._database, self._context = database, context
        self._conn: Connection | None = None

    def ready(self) -> None:
        """Open the session, while nobody waits for it."""
        if self._conn is None or self._conn.closed:
            self._conn = self._database.connect(f"gate/{self._context}")

    def take(self, timeout_s: float) -> None:
        """Close the gate; does nothing where this object holds it already.

        :raises psycopg.errors.LockNotAvailable: transactions in flight did not end in time; the gate is open.
        """
        self.ready()
        assert self._conn is not None
        if self._conn.info.transaction_status is TransactionStatus.INTRANS:
            return
        timeout_ms = sql.Literal(max(1, round(timeout_s * 1000)))
        try:
            self._conn.execute("BEGIN")
            self._conn.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(timeout_ms))
            self._conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(gate_table(self._context)))
        except psycopg.errors.LockNotAvailable:
            self._conn.execute("ROLLBACK")
            raise

    def holders(self) -> list[int]:
        """The server processes whose transactions have passed the gate and not ended."""
        self.ready()
        assert self._conn is not None
        rows = self._conn.execute(
            "SELECT DISTINCT pid FROM pg_locks WHERE relation = %s::regclass AND granted AND pid <> pg_backend_pid()",
            (gate_table(self._context).as_string(),),
        ).fetchall()
        return [pid for (pid,) in rows]

    def give_back(self) -> None:
        """Open the gate."""
        if self._conn is not None and not self._conn.closed:
            try:
                self._conn.execute("ROLLBACK")
            except psycopg.OperationalError:  # the lock ended with its session
                self._conn.close()

    def close(self) -> None:
        """Open the gate and end the session."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None


@contextmanager
def closed_gate(
    database: Database, context: str, *, lock_timeout_ms: int, deadline: float, dry: bool = False
) -> Iterator[float]:
    """Keep the gate closed during the block; yields the monotonic time at which new transactions began to wait.

    :raises psycopg.errors.LockNotAvailable: transactions in flight did not end before ``deadline``.
    """
    if dry:
        yield time.monotonic()
        return
    with closing(GateLock(database, context)) as lock:
        lock.ready()
        pause_s = 0.05
        while True:
            began = time.monotonic()
            try:
                lock.take(lock_timeout_ms / 1000)
                break
            except psycopg.errors.LockNotAvailable:
                if time.monotonic() + pause_s > deadline:
                    raise
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 1.0)
        yield began
