"""The steps of ``prepare``; ``abort`` undoes them in reverse."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from psycopg import sql

from cdc import state as stream_state
from cdc.names import publication_name, slot_name
from cdc.source.slots import create_publication, drop_slot, publication_sql
from contexts import schema
from contexts.catalog import Table, read_tables
from contexts.databases import Database
from contexts.model import Side
from migrator import control, sides
from migrator.executor import retry_locks
from migrator.lockstep import install as lockstep
from migrator.run import Run, Step
from migrator.sides import gate, route, writelock
from migrator.steps.transport import Topic
from validations import rules
from validations.parity.finding import Finding
from validations.parity.grants import grants

#: How long prepare tries to get the short locks that making a trigger takes.
LOCK_PATIENCE_S = 120.0
#: What the closed side keeps of a context's streams.
_OF_A_STREAM = (
    "position",
    "copy_part",
    "copy_key",
    "recent_key",
    "marker",
    "kafka_stream",
    "stream_decision",
    "rule_violation",
    "row_history",
)


class ControlSchema:
    """Schema ``carveout`` in both databases. Kept on abort: other contexts use it."""

    name = "control schema"

    def apply(self, run: Run) -> None:
        """Install or upgrade Carveout's own tables."""
        for side in Side:
            database = run.databases[side]
            run.executor.act(side, "create or upgrade the tables of schema carveout", partial(_install, database))

    def undo(self, run: Run) -> None:
        """Keep it."""


def _install(database: Database) -> None:
    sides.install(database)  # the first: services that ask at the gate may enter the schema as soon as it is there
    stream_state.install(database)
    rules.install(database)
    if database.side is Side.SHARED:
        control.install(database)


class ServiceTables:
    """The context's tables with primary keys in the service database."""

    name = "service tables"

    def apply(self, run: Run) -> None:
        """Run the context's first revision."""
        database = run.databases.service
        run.executor.act(
            Side.SERVICE,
            f"run revision 'tables' of {run.name}",
            lambda: schema.upgrade(database, run.context, "tables"),
        )

    def undo(self, run: Run) -> None:
        """Empty the tables: they hold nothing but a copy of the shared side's rows."""
        tables = _existing(run, Side.SERVICE)
        if tables:
            names = sql.SQL(", ").join(table.identifier() for table in tables)
            run.executor.write(Side.SERVICE, sql.SQL("TRUNCATE {}").format(names))


class Grants:
    """What the declared roles may do, on the service side too; a role that is not there is left to its operator."""

    name = "grants"

    def apply(self, run: Run) -> None:
        """Grant what is declared and missing."""
        if run.executor.dry and not _existing(run, Side.SERVICE):
            run.executor.act(Side.SERVICE, f"grant what {run.name} declares to the roles that exist", lambda: None)
            return
        for finding in grants(run.executor.connection(Side.SERVICE), run.context):
            if finding.kind == "grant":
                run.executor.write(Side.SERVICE, statement(finding))

    def undo(self, run: Run) -> None:
        """Keep them: they give access to empty tables."""


class Gates:
    """The gate and the route in both databases."""

    name = "gate and route"

    def apply(self, run: Run) -> None:
        """Make them; the shared side is open."""
        epoch = run.migration().epoch
        for side in Side:
            with run.executor.transaction(side):
                gate.create(run.executor, side, run.name)
                route.write(run.executor, side, run.name, Side.SHARED, epoch)

    def undo(self, run: Run) -> None:
        """Remove them."""
        for side in Side:
            with run.executor.transaction(side):
                gate.drop(run.executor, side, run.name)
                route.forget(run.executor, side, run.name)


class WriteLocks:
    """The write locks: closed on the service side, open on the shared side."""

    name = "write locks"

    def apply(self, run: Run) -> None:
        """Make them, table by table: each holds its lock only for a moment."""
        for side in (Side.SERVICE, Side.SHARED):
            for table in _tables_to_be(run, side):
                _with_short_lock(run, side, table, closed=side is Side.SERVICE)

    def undo(self, run: Run) -> None:
        """Remove them."""
        for side in Side:
            for table in _existing(run, side):
                retry_locks(
                    run.executor,
                    side,
                    f"write lock of {table.name}",
                    partial(writelock.drop, run.executor, side, [table]),
                    lock_timeout_ms=run.context.options.lock_timeout_ms,
                    deadline=time.monotonic() + LOCK_PATIENCE_S,
                )


class LockstepParts:
    """What ``dual-write`` makes when it is used."""

    name = "lockstep"

    def apply(self, run: Run) -> None:
        """Nothing yet."""

    def undo(self, run: Run) -> None:
        """Remove its triggers and functions."""
        lockstep.remove(run, _existing(run, Side.SHARED))


def _tables_to_be(run: Run, side: Side) -> Sequence[Table]:
    """The tables; in a dry run those of a still empty service database bear the names of the shared ones."""
    if run.executor.dry and not _existing(run, side):
        return run.tables(Side.SHARED)
    return run.tables(side)


def _with_short_lock(run: Run, side: Side, table: Table, *, closed: bool) -> None:
    retry_locks(
        run.executor,
        side,
        f"write lock of {table.name}",
        partial(writelock.create, run.executor, side, run.name, table, closed=closed),
        lock_timeout_ms=run.context.options.lock_timeout_ms,
        deadline=time.monotonic() + LOCK_PATIENCE_S,
    )


class Publication:
    """The publication on the shared side, and whatever streams from it."""

    name = "publication"

    def apply(self, run: Run) -> None:
        """Publish the context's tables; the slot comes later, with the copy."""
        publish(run, Side.SHARED)

    def undo(self, run: Run) -> None:
        """Drop publications, slots and the stored positions of the context."""
        for side in Side:
            drop_stream(run, side)


def publish(run: Run, side: Side) -> None:
    """Make the context's publication on a side."""
    name, tables = publication_name(run.name), run.context.table_names
    run.executor.act(
        side,
        publication_sql(name, tables).as_string(),
        lambda: create_publication(run.executor.connection(side), name, tables),
    )


def drop_stream(run: Run, side: Side) -> None:
    """Drop what streams from a side, and what is stored there of streams to it."""
    executor = run.executor
    like = slot_name(run.migration().stream).removesuffix(str(run.migration().epoch))
    slots = executor.read(
        side,
        sql.SQL(
            "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
            " AND slot_name ~ ('^' || {} || '[0-9]+$')"
        ).format(sql.Literal(like)),
    )
    for (slot,) in slots:
        executor.act(
            side,
            f"SELECT pg_drop_replication_slot('{slot}')",
            partial(drop_slot, executor.connection(side), slot),
        )
    executor.write(side, sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(publication_name(run.name))))
    for table in _OF_A_STREAM:
        if executor.read(side, sql.SQL("SELECT to_regclass({})").format(sql.Literal(f"carveout.{table}")))[0][0]:
            executor.write(
                side,
                sql.SQL("DELETE FROM {} WHERE context = %s").format(sql.Identifier("carveout", table)),
                (run.name,),
            )


def statement(finding: Finding) -> sql.SQL:
    """The finding's fix, composed of quoted names by the parity check, as a statement."""
    return sql.SQL(finding.fix)


def _existing(run: Run, side: Side) -> Sequence[Table]:
    return list(read_tables(run.executor.connection(side), run.context.table_names).values())


PREPARATION: Sequence[Step] = (
    ControlSchema(),
    ServiceTables(),
    Grants(),
    Gates(),
    WriteLocks(),
    LockstepParts(),
    Publication(),
    Topic(),
)
