"""Write locks: triggers that refuse application writes on the closed side.

They are made once, disabled on the open side, and only enabled or disabled later: both take the lock that waits
for writers (SHARE ROW EXCLUSIVE) and leaves readers alone. The applier runs with
``session_replication_role = replica`` and is not refused. So is nobody else in that role: a second trigger, which fires
in that role alone, notes who it was (``carveout.rogue_write``).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from psycopg import sql

from contexts.catalog import Table
from contexts.model import Side
from migrator.executor import Executor

TRIGGER = "carveout_write_lock"
NOTE_TRIGGER = "carveout_note_write"
_NAME = sql.Identifier(TRIGGER)
_NOTE = sql.Identifier(NOTE_TRIGGER)


_LOCK_SQL = sql.SQL(
    "CREATE OR REPLACE TRIGGER carveout_write_lock BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"
    " FOR EACH STATEMENT EXECUTE FUNCTION carveout.write_lock({context}, {other})"
)
_NOTE_SQL = sql.SQL(
    "CREATE OR REPLACE TRIGGER carveout_note_write AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"
    " FOR EACH STATEMENT EXECUTE FUNCTION carveout.note_write({context}, {other})"
)


class LockState(enum.StrEnum):
    """Whether a table refuses writes (``pg_trigger.tgenabled``)."""

    CLOSED = "closed"
    OPEN = "open"
    #: The trigger is not there: the table was made later, or never prepared.
    MISSING = "missing"


def create(executor: Executor, side: Side, context: str, table: Table, *, closed: bool) -> None:
    """Make both triggers on one table, closed or open; call it in a transaction of its own per table."""
    # Statement triggers are not inherited by partitions: each leaf and each root has its own.
    for template in (_LOCK_SQL, _NOTE_SQL):
        statement = template.format(
            table=table.identifier(), context=sql.Literal(context), other=sql.Literal(str(side.other))
        )
        executor.write(side, statement)
    executor.write(side, sql.SQL("ALTER TABLE {} ENABLE REPLICA TRIGGER {}").format(table.identifier(), _NOTE))
    (close if closed else open_)(executor, side, [table])


def creation(context: str, side: Side, table: Table) -> list[str]:
    """The statements that make both triggers of a table of a closed side, for somebody who has to do it by hand."""
    parts = {"table": table.identifier(), "context": sql.Literal(context), "other": sql.Literal(str(side.other))}
    made = [template.format(**parts).as_string() for template in (_LOCK_SQL, _NOTE_SQL)]
    return [*made, f"ALTER TABLE {table.identifier().as_string()} ENABLE REPLICA TRIGGER {NOTE_TRIGGER}"]


def close(executor: Executor, side: Side, tables: Iterable[Table]) -> None:
    """Refuse writes to the tables from the end of the transaction on."""
    for table in tables:
        executor.write(side, sql.SQL("ALTER TABLE {} ENABLE TRIGGER {}").format(table.identifier(), _NAME))


def open_(executor: Executor, side: Side, tables: Iterable[Table]) -> None:
    """Allow writes to the tables from the end of the transaction on."""
    for table in tables:
        executor.write(side, sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(table.identifier(), _NAME))


def drop(executor: Executor, side: Side, tables: Iterable[Table]) -> None:
    """Remove the triggers."""
    for table in tables:
        for name in (_NAME, _NOTE):
            executor.write(side, sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(name, table.identifier()))


def states(executor: Executor, side: Side, tables: Iterable[Table]) -> dict[Table, LockState]:
    """The state of each table's write lock."""
    listed = list(tables)
    found: dict[int | None, bool] = dict(
        executor.read(
            side,
            sql.SQL(
                "SELECT tgrelid::int8, tgenabled = 'D' FROM pg_trigger WHERE tgname = {} AND tgrelid = ANY ({}::oid[])"
            ).format(sql.Literal(TRIGGER), sql.Literal([table.oid for table in listed])),
        )
    )
    named: dict[bool | None, LockState] = {None: LockState.MISSING, True: LockState.OPEN, False: LockState.CLOSED}
    return {table: named[found.get(table.oid)] for table in listed}
