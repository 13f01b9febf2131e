"""The tables of the versions, in the service database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from contexts import sqlfiles
from contexts.catalog import Table
from contexts.databases import Connection
from contexts.model import Context, TableName

_SQL = sqlfiles.load("validations.history", "tables.sql")
SUFFIX = "_versions"


@dataclass(frozen=True, slots=True)
class Version:
    """One change; the rows are JSON objects of texts."""

    lsn: str
    ordinal: int
    operation: str
    xid: int
    at: dt.datetime
    old: str | None
    new: str | None


def name_of(table: TableName) -> TableName:
    """Where the versions of a table are."""
    return TableName(table.schema, table.name + SUFFIX)


def versioned(context: Context) -> list[TableName]:
    """The tables of the context that have versions."""
    return [table.name for table in context.tables if table.versions]


def image(columns: Sequence[str]) -> sql.Composable:
    """A row ``t`` as an object of the texts that the types' output functions write, as the stream has them."""
    names = sql.SQL(", ").join(map(sql.Literal, columns))
    texts = sql.SQL(", ").join(
        sql.SQL("CASE WHEN {0} IS NOT NULL THEN format('%s', {0}) END").format(sql.Identifier("t", column))
        for column in columns
    )
    return sql.SQL("jsonb_object(ARRAY[{}]::text[], ARRAY[{}]::text[])").format(names, texts)


def columns_of(table: Table) -> list[str]:
    """The columns that a version holds."""
    return [column.name for column in table.written_columns]


def known(conn: Connection, context: str, table: TableName) -> list[str] | None:
    """The columns of the table at its newest baseline; None where it has none."""
    row = conn.execute(_SQL["known"], (context, *table)).fetchone()
    return list(row[0]) if row else None


def begin(conn: Connection, context: Context, epoch: int, lsn: str, table: Table) -> None:
    """Make the table of the versions, and a baseline of all rows at a position, in the open transaction.

    Versions that are there stay: the replay takes the newest of each row.
    """
    versions, columns = sql.Identifier(*name_of(table.name)), columns_of(table)
    conn.execute(_SQL["create"].format(versions=versions))
    if known(conn, context.name, table.name) is None:  # of a migration that was given up
        conn.execute(sql.SQL("TRUNCATE {}").format(versions))
    readers = {g.role for g in context.grants if "select" in g.privileges and table.name in (g.tables or [table.name])}
    for (role,) in conn.execute(_SQL["roles"], (sorted(readers),)).fetchall():
        conn.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(versions, sql.Identifier(role)))
    conn.execute(
        _SQL["baseline"].format(
            versions=versions, epoch=sql.Literal(epoch), lsn=sql.Literal(lsn), image=image(columns),
            table=table.identifier(),
        )
    )  # fmt: skip
    conn.execute(_SQL["know"], (context.name, *table.name, columns, epoch, lsn))


def add(conn: Connection, epoch: int, table: TableName, found: Sequence[Version]) -> None:
    """Append versions; those that are there already stay as they are."""
    query = _SQL["add"].format(versions=sql.Identifier(*name_of(table)), epoch=sql.Literal(epoch))
    columns = [(v.lsn, v.ordinal, v.operation, v.xid, v.at, v.old, v.new) for v in found]
    conn.execute(query, [list(column) for column in zip(*columns, strict=True)])
