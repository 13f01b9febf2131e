"""The gate: a table per context whose lock new transactions of gated applications wait for.

A gated transaction begins with ``LOCK TABLE carveout.gate_<context> IN ACCESS SHARE MODE`` and then reads the
route. ``LOCK TABLE`` takes no snapshot, so the route is read as it is once the gate opens again, in every
isolation level. Closing takes ACCESS EXCLUSIVE: it waits for the gated transactions in flight, and new ones
wait for it. The lock ends with its session, so a killed driver leaves no closed gate behind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from contexts.databases import Database
from contexts.model import Side
from migrator.executor import Executor


def gate_table(context: str) -> sql.Identifier:
    """The gate's qualified name."""
    return sql.Identifier("carveout", f"gate_{context}")


def create(executor: Executor, side: Side, context: str) -> None:
    """Make the gate; everybody may pass it."""
    executor.write(side, sql.SQL("CREATE TABLE IF NOT EXISTS {} ()").format(gate_table(context)))
    executor.write(side, sql.SQL("GRANT SELECT ON {} TO PUBLIC").format(gate_table(context)))


def drop(executor: Executor, side: Side, context: str) -> None:
    """Remove the gate."""
    executor.write(side, sql.SQL("DROP TABLE IF EXISTS {}").format(gate_table(context)))


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
    with database.connect(f"gate/{context}") as conn:
        pause_s = 0.05
        while True:
            began = time.monotonic()
            try:
                conn.execute("BEGIN")
                conn.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(lock_timeout_ms)))
                conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(gate_table(context)))
                break
            except psycopg.errors.LockNotAvailable:
                conn.execute("ROLLBACK")
                if time.monotonic() + pause_s > deadline:
                    raise
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 1.0)
        try:
            yield began
        finally:
            conn.execute("ROLLBACK")
