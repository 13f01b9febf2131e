"""The route: what each database was last told about the open side of a context."""

from __future__ import annotations

from psycopg import sql

from contexts.model import Side
from migrator.executor import Executor


def write(executor: Executor, at: Side, context: str, open_side: Side, epoch: int) -> None:
    """Tell the database of side ``at`` which side is open; an older epoch never overwrites a newer one."""
    executor.write(
        at,
        sql.SQL(
            "INSERT INTO carveout.route (context, open_side, epoch) VALUES (%s, %s, %s) ON CONFLICT (context)"
            " DO UPDATE SET open_side = excluded.open_side, epoch = excluded.epoch, changed_at = clock_timestamp()"
            " WHERE route.epoch <= excluded.epoch"
        ),
        (context, open_side, epoch),
    )


def read(executor: Executor, at: Side, context: str) -> tuple[Side, int] | None:
    """The open side and the epoch as the database of side ``at`` knows them."""
    rows = executor.read(at, sql.SQL("SELECT open_side, epoch FROM carveout.route WHERE context = %s"), (context,))
    return (Side(rows[0][0]), rows[0][1]) if rows else None


def driver(executor: Executor, at: Side, context: str, *, hold: bool = False) -> int:
    """The newest driver that has changed the side; ``hold`` keeps others waiting until the transaction's end."""
    lock = sql.SQL("FOR UPDATE" if hold else "")
    query = sql.SQL("SELECT driver FROM carveout.route WHERE context = %s {}").format(lock)
    rows = executor.read(at, query, (context,))
    return int(rows[0][0]) if rows else 0


def mark_driver(executor: Executor, at: Side, context: str, number: int) -> None:
    """Store the driver's number in the transaction in which it changes the side."""
    executor.write(at, sql.SQL("UPDATE carveout.route SET driver = %s WHERE context = %s"), (number, context))


def forget(executor: Executor, at: Side, context: str) -> None:
    """Remove the route, when the migration is over."""
    executor.write(at, sql.SQL("DELETE FROM carveout.route WHERE context = %s"), (context,))
