"""Gets tables of the closed side ready for a load, and whole again after it.

The primary key of a table that starts empty is built after the load: with random keys that halves the time, and
it is what keeps a table larger than the memory from reading its index page by page.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from cdc.copy import ledger
from contexts import sqlfiles
from contexts.catalog import read_tables
from contexts.databases import Connection
from contexts.model import TableName

#: Below this a table's key is not worth two schema changes.
MIN_BYTES_WITHOUT_KEY = 16 << 20
_SQL = sqlfiles.load("cdc.copy", "target.sql")


def empty(closed: Connection, context: str, names: Iterable[TableName], without_key: frozenset[TableName]) -> None:
    """Empty tables that are copied from their start, and drop the primary keys of those in ``without_key``."""
    for name, table in read_tables(closed, names).items():
        with closed.transaction():
            if table.bytes and ledger.has_rows(closed, name):
                _clear(closed, name, table.oid)
            ledger.forget_keys(closed, context, name)
            if name in without_key:
                _drop_key(closed, context, name, table.oid)


def dropped_keys(closed: Connection, context: str) -> list[TableName]:
    """Tables that are complete but for their primary key."""
    return [TableName(*row) for row in closed.execute(_SQL["dropped_keys"], (context,))]


def build_key(closed: Connection, context: str, name: TableName) -> None:
    """Build the primary key that :func:`empty` dropped, if it is not there yet."""
    with closed.transaction():
        row = closed.execute(_SQL["forget_dropped_key"], (context, *name)).fetchone()
        if row is not None:
            closed.execute(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                    sql.Identifier(*name),
                    sql.Identifier(row[0]),
                    sql.SQL(row[1]),  # pg_get_constraintdef's own text
                )
            )


def _clear(closed: Connection, name: TableName, oid: int) -> None:
    # A foreign key from elsewhere forbids TRUNCATE even where no row refers to this table.
    referenced = closed.execute(_SQL["is_referenced"], (oid,)).fetchone() == (True,)
    statement = sql.SQL("DELETE FROM ONLY {}") if referenced else sql.SQL("TRUNCATE ONLY {}")
    closed.execute(statement.format(sql.Identifier(*name)))


def _drop_key(closed: Connection, context: str, name: TableName, oid: int) -> None:
    row = closed.execute(_SQL["droppable_key"], (oid,)).fetchone()
    if row is not None:
        closed.execute(_SQL["store_key"], (context, *name, *row))
        closed.execute(
            sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.Identifier(*name), sql.Identifier(row[0]))
        )


def reset(closed: Connection, context: str) -> None:
    """Undo the copy: empty every planned table, put dropped primary keys back, forget the plan; all or nothing."""
    ledger.fence(closed, context)
    names = {part.table for part in ledger.read(closed, context)}
    with closed.transaction():
        closed.execute("SET LOCAL session_replication_role = replica")  # past the write locks of the closed side
        empty(closed, context, names, frozenset())
        for name in sorted(names):
            build_key(closed, context, name)
        ledger.forget(closed, context)
