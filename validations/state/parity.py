"""The store of what surrounds the rows, beside the verifications."""

from __future__ import annotations

import psycopg

from contexts import sqlfiles
from contexts.databases import Database
from validations.parity.finding import Parity

_SQL = sqlfiles.load("validations.state", "parity.sql")


def save(database: Database, verification: int, parity: Parity) -> None:
    """Store what a verification saw, in the place of what was stored before."""
    lines = [list(found) for found in (parity.schema, parity.sequences, parity.grants)]
    with database.connect("verification") as session:
        session.execute(_SQL["save"], (verification, *lines))


def read(database: Database, verification: int) -> Parity | None:
    """What was stored for a verification; None where nothing was, or the tables are of an earlier revision."""
    with database.connect("verification") as session:
        try:
            row = session.execute(_SQL["read"], (verification,)).fetchone()
        except psycopg.errors.UndefinedTable:
            return None
    return Parity(*map(tuple, row)) if row else None
