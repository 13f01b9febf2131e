"""The publication of a context: what its slot lets through."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from contexts import sqlfiles
from contexts.databases import Connection
from contexts.errors import RefusedError
from contexts.model import TableName

_SQL = sqlfiles.load("cdc.source", "slots.sql")


def create_publication(conn: Connection, name: str, tables: Sequence[TableName]) -> None:
    """Publish all changes of the tables; nothing to do where exactly this is published already.

    A partitioned table is given by its root. Its rows come under the names of the leaf partitions, so that a
    TRUNCATE of one partition comes too, and so do partitions attached later.

    :raises RefusedError: a publication of that name publishes something else, or there are no tables.
    """
    if not tables:
        raise RefusedError(f"publication {name!r}: no tables to publish", unchanged="no publication was made")
    if (found := conn.execute(_SQL["publication"], (name,)).fetchone()) is None:
        conn.execute(publication_sql(name, tables))
        return
    publishes_all, schemas, names = found
    if not publishes_all or set(map(TableName, schemas, names)) != set(tables):
        raise RefusedError(
            f"publication {name!r} exists and publishes other tables, or not all of their changes",
            unchanged="the publication was left as it is",
            next_step=f'find out who made it; DROP PUBLICATION "{name}" if nobody uses it',
        )


def publication_sql(name: str, tables: Sequence[TableName]) -> sql.Composed:
    """The statement that :func:`create_publication` runs."""
    # ONLY: children by inheritance are tables of their own, and move only where they are named.
    return sql.SQL(
        "CREATE PUBLICATION {} FOR TABLE {} WITH"
        " (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)"
    ).format(
        sql.Identifier(name),
        sql.SQL(", ").join(sql.SQL("ONLY {}").format(sql.Identifier(*table)) for table in tables),
    )


def publication_exists(conn: Connection, name: str) -> bool:
    """Whether the database has the publication."""
    return conn.execute(_SQL["publication"], (name,)).fetchone() is not None


def drop_publication(conn: Connection, name: str) -> None:
    """Drop the publication; nothing to do where it does not exist."""
    conn.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(name)))
