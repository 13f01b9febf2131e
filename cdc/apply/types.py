"""Types of users and extensions: their OIDs differ between servers, so both sides describe them in words."""

from __future__ import annotations

import functools
from collections.abc import Callable

import psycopg

from contexts import sqlfiles
from contexts.databases import Connection, Database

#: Describes a type by its OID and modifier; None where it is not there any more.
Describe = Callable[[int, int], str | None]

_SQL = sqlfiles.load("cdc.apply", "types.sql")


def described(conn: Connection, oid: int, typmod: int) -> str | None:
    """``format_type``, and for domains (and arrays of them) also of what is under them."""
    row = psycopg.RawCursor(conn).execute(_SQL["described"], (oid, typmod)).fetchone()
    assert row is not None
    return None if row[0] is None else str(row[0])


def types_of(database: Database) -> Describe:
    """Asks ``database`` once for each type, when it is met: a few times in the life of a stream.

    What it returns raises DatabaseUnreachable where no server answers.
    """

    @functools.cache
    def ask(oid: int, typmod: int) -> str | None:
        with database.connect("types") as conn:
            return described(conn, oid, typmod)

    return ask
