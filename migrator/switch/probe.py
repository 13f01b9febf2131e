"""Rows that are sent the way back before anybody depends on it, and the rights that their arrival needs."""

from __future__ import annotations

import psycopg
from psycopg import sql

from contexts.catalog import Identity, Table
from contexts.errors import CarveoutError
from contexts.model import Side
from migrator.executor import Row
from migrator.run import Run
from migrator.switch import markers
from migrator.switch.markers import Marker

_XID = sql.SQL("SELECT pg_current_xact_id()::text::int8 & 4294967295")
_PEEK = sql.SQL(
    "SELECT count(*) FILTER (WHERE get_byte(data, 0) = ascii('U')),"
    " coalesce(bool_or(position(convert_to(%s, 'UTF8') IN data) > 0), false)"
    " FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL, 'proto_version', '1',"
    " 'publication_names', %s, 'messages', 'true') WHERE xid::text::int8 = %s"
)


class CannotApply(CarveoutError):
    """Changes that come the way back could not be written."""


def send(run: Run, side: Side, marker: Marker) -> tuple[int, int]:
    """Write one row of each table of the closed side anew, as it is, and the marker, in one transaction.

    The row keeps its values, so nothing differs from before; but it goes through publication, replica identity and
    decoding as every later one.

    :returns: the transaction's id, and how many rows there were to send.
    """
    executor, sent = run.executor, 0
    with executor.transaction(side):
        executor.write(side, sql.SQL("SET LOCAL session_replication_role = replica"))
        executor.write(side, sql.SQL("SET LOCAL lock_timeout = '1s'"))
        for table in run.tables(side):
            if query := _rewrite(table):
                sent += len(executor.write(side, query))
        markers.emit(executor, side, marker)
        xid = 0 if executor.dry else executor.read(side, _XID)[0][0]
    return xid, sent


def arrived(run: Run, side: Side, slot: str, publication: str, marker: Marker, xid: int) -> Row:
    """How many of the rows the slot gives, and whether it gives the marker."""
    return run.executor.read(side, _PEEK, (marker.id, slot, publication, xid))[0]


def require_applicable(run: Run, side: Side) -> None:
    """Make sure that we may write the tables of the side that closes, as the reverse stream will.

    :raises CannotApply: names the table and the server's reason.
    """
    if run.executor.dry:
        return
    conn = run.executor.connection(side)
    for table in run.tables(side):
        name, columns = table.identifier(), sql.SQL(", ").join(sql.Identifier(c.name) for c in table.written_columns)
        insert = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} WHERE false")
        try:
            with conn.transaction(force_rollback=True):
                conn.execute("SET LOCAL session_replication_role = replica")
                conn.execute("SET LOCAL lock_timeout = '1s'")
                conn.execute(sql.SQL("DELETE FROM {} WHERE false").format(name))
                conn.execute(insert.format(name, columns, columns, name))
        except psycopg.errors.InsufficientPrivilege as error:
            raise CannotApply(
                f"context {run.name!r}: the way back could not write {table.name} on the {side} side:"
                f" {error.diag.message_primary}",
                unchanged="the open side stays open",
                next_step=f"carveout check {run.name}",
            ) from error


def _rewrite(table: Table) -> sql.Composed | None:
    """An UPDATE of any one row that changes nothing; None for a partitioned root, or where no column allows it."""
    column = next((c for c in table.written_columns if c.identity is not Identity.ALWAYS), None)
    if column is None or table.kind == "p":
        return None
    name = sql.Identifier(column.name)
    return sql.SQL(
        "UPDATE {table} SET {column} = {column} WHERE ctid = (SELECT ctid FROM {table} LIMIT 1) RETURNING 1"
    ).format(table=table.identifier(), column=name)
