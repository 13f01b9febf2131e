"""Refused writes: their number, and who the last of them were.

A refused write rolls back, and every row it could leave. A sequence does not: ``carveout.write_lock`` counts in one,
and keeps role, table, process and address of the last :data:`PLACES` attempts in two more for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from contexts import sqlfiles
from contexts.databases import Connection

#: As many as revision 0004 of the sides made.
PLACES = 8
_SQL = sqlfiles.load("migrator.watch", "watch.sql")
_NAMES = [
    "refused",
    *(f"refused_who_{place}" for place in range(PLACES)),
    *(f"refused_from_{place}" for place in range(PLACES)),
]
_READ = sql.SQL(" UNION ALL ").join(
    sql.SQL("SELECT {}::int, CASE WHEN is_called THEN last_value ELSE 0 END FROM {}").format(
        sql.Literal(number), sql.Identifier("carveout", name)
    )
    for number, name in enumerate(_NAMES)
)


@dataclass(frozen=True, slots=True)
class Attempts:
    """The sequences as they stand."""

    number: int
    who: tuple[int, ...]
    from_: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One refused write; ``role`` is the login's, an application or address that is not known is empty."""

    role: str
    application: str
    address: str
    table: str


def read(conn: Connection) -> Attempts:
    """Read all in one round trip."""
    values: dict[int, int] = dict(conn.execute(_READ).fetchall())
    return Attempts(
        values[0],
        tuple(values[1 + place] for place in range(PLACES)),
        tuple(values[1 + PLACES + place] for place in range(PLACES)),
    )


def newest(conn: Connection, attempts: Attempts, seen: int, tables: Sequence[int]) -> list[Attempt]:
    """Those since number ``seen`` that can be told apart and were on one of ``tables``."""
    numbers = range(max(seen, attempts.number - PLACES) + 1, attempts.number + 1)
    found = [_attempt(conn, attempts, number % PLACES, tables) for number in numbers]
    return [attempt for attempt in found if attempt]


def _attempt(conn: Connection, attempts: Attempts, place: int, tables: Sequence[int]) -> Attempt | None:
    who, from_ = attempts.who[place], attempts.from_[place]
    parts = {"role": who >> 31, "relation": who & 0x7FFFFFFF, "pid": from_ >> 32, "address": from_ & 0xFFFFFFFF}
    row = conn.execute(_SQL["refused_by"], {**parts, "tables": list(tables)}).fetchone()
    return Attempt(*row) if row else None
