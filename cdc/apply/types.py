"""Types of users and extensions: their OIDs differ between servers, so both sides describe them in words."""

from __future__ import annotations

import psycopg

from contexts import sqlfiles
from contexts.databases import Connection, Database
from contexts.model import TableName

_SQL = sqlfiles.load("cdc.apply", "types.sql")


def described(conn: Connection, oid: int, typmod: int) -> str | None:
    """``format_type``, and of domains, composites and ranges (and arrays of them) also what is under them.

    None where there is no such type.
    """
    row = psycopg.RawCursor(conn).execute(_SQL["described"], (oid, typmod)).fetchone()
    assert row is not None
    return None if row[0] is None else str(row[0])


class SourceTypes:
    """What the OIDs in a stream mean; asked once for each type, a few times in the life of a stream.

    Every question may raise DatabaseUnreachable.
    """

    def __init__(self, database: Database, *, has_tables: bool = True) -> None:
        """
        :param database: whose OIDs the stream carries.
        :param has_tables: whether that is the open side.
        """
        self._database = database
        self._has_tables = has_tables
        self._known: dict[tuple[int, int], str | None] = {}

    def described(self, oid: int, typmod: int) -> str | None:
        """The type in words; None where it is not there any more."""
        if (oid, typmod) not in self._known:
            with self._database.connect("types") as conn:
                self._known[oid, typmod] = described(conn, oid, typmod)
        return self._known[oid, typmod]

    def now(self, table: TableName, column: str) -> str | None:
        """The type that a column of the open side has by now; None where that is not known."""
        if not self._has_tables:
            return None
        with self._database.connect("types") as conn:
            found = psycopg.RawCursor(conn).execute(_SQL["column"], (*table, column)).fetchone()
            return described(conn, *found) if found else None
