"""``complete``: the service side stays open, and everything that served the migration goes away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from psycopg import sql

from contexts import sqlfiles
from contexts.catalog import Table, read_tables
from contexts.errors import RefusedError
from contexts.killpoints import kill_point
from contexts.model import Side
from migrator import outbox
from migrator.control import migrations
from migrator.executor import retry_locks
from migrator.lifecycle import State, require_state
from migrator.lockstep import install as lockstep
from migrator.run import Run
from migrator.sides import writelock
from migrator.steps import foreign, transport
from migrator.steps.preparation import LOCK_PATIENCE_S, drop_stream
from migrator.steps.quiet import await_worker

_log = logging.getLogger(__name__)
_SQL = sqlfiles.load("migrator.steps", "complete.sql")


def complete(run: Run, *, drop_tables: bool, foreign_tables: bool = False) -> None:
    """End the migration: drop the reverse stream, and with ``drop_tables`` the shared side's closed tables.

    The route and the gate stay in both databases, so applications that still ask for them keep working; without
    ``drop_tables`` the closed tables stay too, and go on refusing writes. With ``foreign_tables`` foreign tables take
    their names and lead to the service database; that can be asked for after the end, too.

    :raises RefusedError: the service side is not open, other objects of the shared database need the tables, or
        foreign tables cannot be made.
    """
    state = run.migration().state
    if state is State.COMPLETED and not foreign_tables:
        return
    require_state(run.name, state, State.SWITCHED, State.COMPLETING, State.COMPLETED)
    if drop_tables or foreign_tables:
        _require_droppable(run)
    if foreign_tables:
        foreign.require(run, _shared_tables(run))
    if state is State.SWITCHED:
        outbox.require_published(run)
    if state is not State.COMPLETED:
        _end_stream(run)
    if drop_tables or foreign_tables:
        put_away = partial(_put_away, run, drop_tables, foreign_tables)
        _with_locks(run, "put the closed tables away", Side.SHARED, put_away)
    if state is not State.COMPLETED:
        _become(run, State.COMPLETED)


def _end_stream(run: Run) -> None:
    """Remove the way back and what guarded it."""
    _become(run, State.COMPLETING)
    kill_point("complete.started")
    run.executor.act(None, "wait until the worker has let go of the stream", partial(await_worker, run))
    transport.remove_all(run)
    for side in Side:
        drop_stream(run, side)
    kill_point("complete.stream_dropped")
    _with_locks(run, "drop the write locks of the service side", Side.SERVICE, _drop_write_locks(run))
    lockstep.remove(run, _shared_tables(run))


def _put_away(run: Run, drop_tables: bool, foreign_tables: bool) -> None:
    tables = _shared_tables(run)
    if foreign_tables:
        aside = partial(_drop_tables, run) if drop_tables else partial(foreign.move_aside, run, tables)
        foreign.replace(run, tables, aside)
    else:
        _drop_tables(run)


def dropped(run: Run) -> list[str]:
    """What ``complete(drop_tables=True)`` would drop on the shared side, with its size, for the question asked."""
    return [f"{table.name} ({table.bytes / 1e6:.1f} MB)" for table in _shared_tables(run)]


def _become(run: Run, state: State) -> None:
    run.executor.act(Side.SHARED, f"state of {run.name}: {state}", lambda: _transition(run, state))


def _transition(run: Run, state: State) -> None:
    migrations.transition(run.control, run.name, state)


def _drop_write_locks(run: Run) -> Callable[[], None]:
    return lambda: writelock.drop(run.executor, Side.SERVICE, run.tables(Side.SERVICE))


def _drop_tables(run: Run) -> None:
    tables = [table for table in _shared_tables(run) if table.name in run.context.table_names]
    if tables:  # no CASCADE: nothing is dropped that was not named
        names = sql.SQL(", ").join(table.identifier() for table in tables)
        run.executor.write(Side.SHARED, sql.SQL("DROP TABLE {}").format(names))


def _shared_tables(run: Run) -> list[Table]:
    return list(read_tables(run.executor.connection(Side.SHARED), run.context.table_names).values())


def _require_droppable(run: Run) -> None:
    oids = [table.oid for table in _shared_tables(run)]
    dependents = run.executor.read(Side.SHARED, _SQL["dependents"], (oids, oids, oids))
    if dependents:
        raise RefusedError(
            f"context {run.name!r}: other objects need the tables: {', '.join(row[0] for row in dependents)}",
            unchanged="nothing was dropped",
            next_step=f"drop those first, or carveout complete {run.name} without --drop-tables and --foreign-tables",
        )


def _with_locks(run: Run, what: str, side: Side, attempt: Callable[[], None]) -> None:
    retry_locks(
        run.executor, side, what, attempt,
        lock_timeout_ms=run.context.options.lock_timeout_ms, deadline=time.monotonic() + LOCK_PATIENCE_S,
    )  # fmt: skip
