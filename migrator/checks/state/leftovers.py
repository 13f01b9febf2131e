"""Nothing of an earlier migration of this context is in the way, and a running one has its slots in good health."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from cdc.names import publication_name
from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement, warning
from migrator.lifecycle import State

_SQL = sqlfiles.load("migrator.checks.state", "leftovers.sql")


def check(environment: Environment) -> Iterator[Finding]:
    for side in Side:
        yield from _slots(environment, side)
        if environment.state in (State.PLANNED, State.ABORTED):
            yield from _publication(environment, side)
            yield from _write_locks(environment, side)


def _slots(environment: Environment, side: Side) -> Iterator[Finding]:
    for slot, database, wal_status in environment.rows(side, _SQL["slots"], {"context": environment.context.name}):
        if wal_status == "lost":
            message = "the WAL it needs is gone: the stream cannot go on from it"
            yield blocker(side, f"slot {slot}", message, f"carveout doctor {environment.context.name}")
        elif not environment.started or database != environment.database_name(side):
            message = f"is left in database {database}: it keeps WAL, and its name is taken"
            fix = statement("SELECT pg_catalog.pg_drop_replication_slot({})", sql.Literal(slot))
            yield blocker(side, f"slot {slot}", message, fix)


def _publication(environment: Environment, side: Side) -> Iterator[Finding]:
    name = publication_name(environment.context.name)
    if environment.row(side, _SQL["published"], [name])[0]:
        # A prepare that was killed leaves it too, and goes on from it.
        message = "is there already: of an earlier migration, or of a prepare that did not end"
        yield warning(side, f"publication {name}", message, statement("DROP PUBLICATION {}", name))


def _write_locks(environment: Environment, side: Side) -> Iterator[Finding]:
    for schema, table, trigger, closed in environment.rows(side, _SQL["write_locks"], [environment.oids(side)]):
        name = TableName(schema, table)
        fix = statement("DROP TRIGGER {} ON {}", trigger, name)
        if closed and side is Side.SHARED:
            message = f"{trigger} of an earlier migration is on: the applications' writes are refused"
            yield blocker(side, name, message, fix)
        else:
            message = f"{trigger} is there already: of an earlier migration, or of a prepare that did not end"
            yield warning(side, name, message, fix)
