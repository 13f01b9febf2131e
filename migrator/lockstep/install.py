"""Makes what lockstep needs in both databases, and removes it; nothing of it is in force until it is entered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from psycopg import sql

from cdc import state as stream_state
from contexts.catalog import Table
from contexts.errors import RefusedError
from contexts.model import Side
from migrator import sides
from migrator.executor import retry_locks
from migrator.lockstep import collecting, shipping
from migrator.lockstep.shapes import Shape, partitions, shapes
from migrator.run import Run
from validations.history.tables import versioned

LOCK_PATIENCE_S = 60.0
_TRIGGERS = (collecting.GUARD, collecting.CENSUS, *collecting.TOUCH.values())


def install(run: Run) -> None:
    """Make functions and disabled triggers on the shared side, and the receiving function on the service side.

    :raises RefusedError: a table has no primary key.
    """
    _refuse_without_key(run)
    both = run.databases
    run.executor.act(Side.SHARED, "upgrade the functions of schema carveout", lambda: sides.install(both.shared))
    run.executor.act(Side.SERVICE, "upgrade the tables of schema carveout", lambda: stream_state.install(both.service))
    watched = {rule.table for rule in run.context.rules} | set(versioned(run.context))
    ours, theirs = (
        shapes(run.executor.connection(side), run.tables(side), watched) for side in (Side.SHARED, Side.SERVICE)
    )
    for shape in ours:
        _write(run, Side.SHARED, collecting.touch_function(run.name, shape))
    _write(run, Side.SHARED, collecting.collect_function(run.name, ours))
    written = _written(run, ours)
    for table, shape in written:
        _make_triggers(run, table, shape.number)
    _write(run, Side.SERVICE, shipping.apply_function(run.name, theirs))
    _describe(run, written)
    _grant(run)


def remove(run: Run, tables: Sequence[Table]) -> None:
    """Remove the functions and triggers of a context; the audit's findings stay.

    :param tables: those of the shared side that are there.
    """
    executor = run.executor
    for table in tables:
        _with_locks(run, table, partial(_drop_triggers, run, table))
    for (signature,) in executor.read(
        Side.SHARED,
        sql.SQL(
            "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'carveout'::regnamespace"
            " AND proname ~ ('^lockstep_(touch_' || {0} || '_[0-9]+|collect_' || {0} || ')$')"
        ).format(sql.Literal(run.name)),
    ):
        executor.write(Side.SHARED, sql.SQL("DROP FUNCTION {}").format(sql.SQL(signature)))
    executor.write(Side.SERVICE, sql.SQL("DROP FUNCTION IF EXISTS {}").format(shipping.apply_name(run.name)))


def _refuse_without_key(run: Run) -> None:
    if bare := [str(table.name) for table in run.tables(Side.SHARED) if not table.primary_key]:
        raise RefusedError(
            f"context {run.name!r} cannot be written in lockstep: no primary key on {', '.join(bare)}",
            unchanged="nothing was changed",
            next_step="give the tables a primary key, or cut over without lockstep",
        )


def _write(run: Run, side: Side, statement: sql.Composable) -> None:
    """Run a generated statement: a percent sign in it is no placeholder."""
    run.executor.write(side, sql.SQL(statement.as_string().replace("%", "%%")))


def _written(run: Run, numbered: Sequence[Shape]) -> list[tuple[Table, Shape]]:
    """Every table that a statement may name, partitions included, with its shape."""
    by_oid = {shape.table.oid: shape for shape in numbered}
    conn, tables = run.executor.connection(Side.SHARED), run.tables(Side.SHARED)
    return [(shape.table, shape) for shape in numbered] + [
        (table, by_oid[root]) for table, root in partitions(conn, tables)
    ]


def _make_triggers(run: Run, table: Table, number: int) -> None:
    identifier = table.identifier()
    statements = [
        *collecting.guard_triggers(run.name, identifier),
        *collecting.touch_triggers(run.name, number, identifier),
    ]

    def make() -> None:
        for statement in statements:
            _write(run, Side.SHARED, statement)

    _with_locks(run, table, make)


def _drop_triggers(run: Run, table: Table) -> None:
    for name in _TRIGGERS:
        run.executor.write(
            Side.SHARED,
            sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(name), table.identifier()),
        )


def _with_locks(run: Run, table: Table, attempt: Callable[[], None]) -> None:
    retry_locks(
        run.executor, Side.SHARED, f"lockstep triggers of {table.name}", attempt,
        lock_timeout_ms=run.context.options.lock_timeout_ms, deadline=time.monotonic() + LOCK_PATIENCE_S,
    )  # fmt: skip


def _describe(run: Run, written: Sequence[tuple[Table, Shape]]) -> None:
    """Tell the audit how the ledger numbers tables and orders columns."""
    with run.executor.transaction(Side.SERVICE):
        run.executor.write(Side.SERVICE, sql.SQL("DELETE FROM carveout.lockstep_table WHERE context = %s"), (run.name,))
        for table, shape in written:
            run.executor.write(
                Side.SERVICE,
                sql.SQL("INSERT INTO carveout.lockstep_table VALUES (%s, %s, %s, %s, %s, %s, %s)"),
                (
                    run.name,
                    *table.name,
                    shape.number,
                    [c.name for c in shape.key],
                    [c.name for c in shape.columns],
                    shape.watched,
                ),
            )


def _grant(run: Run) -> None:
    """Only roles that may write the tables may ship rows; collecting gives what the caller wrote itself."""
    function = sql.SQL("{}(text, text)").format(shipping.apply_name(run.name))
    run.executor.write(Side.SERVICE, sql.SQL("REVOKE ALL ON FUNCTION {} FROM PUBLIC").format(function))
    writers = {grant.role for grant in run.context.grants if {"insert", "update", "delete"} & set(grant.privileges)}
    present = run.executor.read(
        Side.SERVICE, sql.SQL("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)"), (sorted(writers),)
    )
    grant = sql.SQL("GRANT EXECUTE ON FUNCTION {}, carveout.lockstep_session() TO {}")
    for (role,) in present:
        run.executor.write(Side.SERVICE, grant.format(function, sql.Identifier(role)))
