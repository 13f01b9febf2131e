"""The fence: closing a side for application writes, and opening it again."""

from __future__ import annotations

import logging
import time
from functools import partial

import psycopg
from psycopg import sql

from contexts.catalog import Table
from contexts.model import Side
from migrator.control import switches
from migrator.control.switches import Switch
from migrator.executor import retry_locks
from migrator.run import Run
from migrator.sides import route, writelock
from migrator.sides.writelock import LockState
from migrator.switch import blockers, markers
from migrator.switch.blockers import Blocked
from migrator.switch.markers import Marker

#: Opening a side must not fail because the time for closing the other one is over.
OPEN_PATIENCE_S = 60.0
_log = logging.getLogger(__name__)


def fence(run: Run, switch: Switch, marker: Marker, deadline: float, *, terminate: bool = False) -> int:
    """Close every table of ``from_side`` and write the marker, in one transaction that waits for in-flight writers.

    :param deadline: on the monotonic clock.
    :param terminate: end the sessions in the way after the first attempt.
    :returns: how many attempts the locks took.
    :raises Blocked: names the sessions in the way; the side is open as before.
    :raises SwitchEnded: a newer driver has changed the side.
    """
    side = switch.from_side
    tables = run.tables(side)
    partitioned = any(table.kind == "p" for table in tables)

    def attempt() -> None:
        take(run, switch, side)
        _lock(run, side, tables)
        # Under the lock nobody can make a partition any more; one that was made since prepare has no trigger.
        found = run.tables(side, again=True) if partitioned else tables
        for table, state in writelock.states(run.executor, side, found).items():
            if state is LockState.MISSING:
                writelock.create(run.executor, side, run.name, table, closed=True)
        writelock.close(run.executor, side, found)
        markers.emit(run.executor, side, marker)

    try:
        return retry_locks(
            run.executor, side, "fence", attempt,
            lock_timeout_ms=run.context.options.lock_timeout_ms, deadline=deadline,
            on_blocked=partial(_make_way, run, side, tables, terminate=terminate),
        )  # fmt: skip
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        found = blockers.shown(blockers.on_tables(run, side))
        raise Blocked(
            f"context {run.name!r}: writers on the {side} side did not end in time: {found}",
            unchanged=f"the {side} side is open as before",
            next_step="end those sessions, or try again when they are done",
        ) from error


def complete_locks(run: Run, switch: Switch) -> None:
    """Make the write locks of partitions that were added since ``prepare``, while nobody waits."""
    for side in Side:
        for table, state in writelock.states(run.executor, side, run.tables(side)).items():
            if state is LockState.MISSING:
                retry_locks(
                    run.executor,
                    side,
                    f"write lock of {table.name}",
                    partial(writelock.create, run.executor, side, run.name, table, closed=side is switch.to_side),
                    lock_timeout_ms=run.context.options.lock_timeout_ms,
                    deadline=time.monotonic() + OPEN_PATIENCE_S,
                )


def take(run: Run, switch: Switch, side: Side) -> None:
    """Begin to change a side: from now to the transaction's end no other driver can, and an older one never again.

    :raises SwitchEnded: a newer driver has changed it already.
    """
    newest = route.driver(run.executor, side, run.name, hold=not run.executor.dry)
    if newest > switch.driver:
        raise switches.ended(switch)
    if newest < switch.driver:
        route.mark_driver(run.executor, side, run.name, switch.driver)


def open_side(run: Run, switch: Switch, side: Side) -> None:
    """Let applications write to the side.

    :raises SwitchEnded: a newer driver has changed it.
    """
    _set(run, switch, side, closed=False)


def close_side(run: Run, switch: Switch, side: Side) -> None:
    """Make sure that every table of the side refuses writes.

    :raises SwitchEnded: a newer driver has changed it.
    """
    _set(run, switch, side, closed=True)


def _set(run: Run, switch: Switch, side: Side, *, closed: bool) -> None:
    change = writelock.close if closed else writelock.open_

    def attempt() -> None:
        take(run, switch, side)
        # Read behind the driver's number: an older driver can change nothing any more.
        change(run.executor, side, _not_yet(run, side, closed=closed))

    todo = _not_yet(run, side, closed=closed)
    if not todo and route.driver(run.executor, side, run.name) == switch.driver:
        return
    retry_locks(
        run.executor,
        side,
        f"{'close' if closed else 'open'} {side}",
        attempt,
        lock_timeout_ms=run.context.options.lock_timeout_ms,
        deadline=time.monotonic() + OPEN_PATIENCE_S,
        on_blocked=partial(cancel_autovacuum, run, side, todo),
    )


def _not_yet(run: Run, side: Side, *, closed: bool) -> list[Table]:
    wanted = LockState.CLOSED if closed else LockState.OPEN
    states = writelock.states(run.executor, side, run.tables(side))
    return [table for table, state in states.items() if state is not wanted and state is not LockState.MISSING]


def _lock(run: Run, side: Side, tables: list[Table]) -> None:
    names = sql.SQL(", ").join(table.identifier() for table in tables)
    run.executor.write(side, sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(names))


def _make_way(run: Run, side: Side, tables: list[Table], *, terminate: bool) -> None:
    cancel_autovacuum(run, side, tables)
    if terminate:
        blockers.end(run, side, blockers.on_tables(run, side))


def cancel_autovacuum(run: Run, side: Side, tables: list[Table]) -> None:
    """Ask autovacuum to leave the tables, as the server does for a lock that waits longer than ours may.

    One that runs against transaction id wraparound is left alone, here as there.
    """
    query = sql.SQL(
        "SELECT pg_cancel_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.relation = ANY ({}::oid[]) AND l.granted AND a.backend_type = 'autovacuum worker'"
        " AND position('(to prevent wraparound)' IN a.query) = 0"
    ).format(sql.Literal([table.oid for table in tables]))
    try:
        run.executor.write(side, query)
    except psycopg.errors.InsufficientPrivilege as error:
        _log.warning("autovacuum on the %s side cannot be cancelled: %s", side, error)
