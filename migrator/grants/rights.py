"""What roles may do on one side, and which roles there are to ask about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import psycopg
from psycopg import sql

from contexts import sqlfiles
from contexts.catalog import Table
from contexts.databases import Connection
from contexts.model import Context

SQL = sqlfiles.load("migrator.grants", "grants.sql")
PUBLIC = "PUBLIC"
_STATEMENTS = sqlfiles.load("migrator.watch", "watch.sql")["statements_schema"]


class Right(NamedTuple):
    """One thing that a role may do. ``kind`` says what ``schema``, ``name`` and ``column`` are."""

    role: str
    #: ``database``, ``schema``, ``table``, ``column``, ``sequence`` (of the column) or ``function``.
    kind: str
    schema: str
    name: str
    column: str
    privilege: str


@dataclass
class Known:
    """A role that needs the tables, and how that is known: declared, by the catalog, or from use."""

    name: str
    sources: set[str]
    writes: bool = False

    @property
    def is_sure(self) -> bool:
        """Whether somebody said so, or it was seen at work."""
        return bool(self.sources & {"declared", "used"})


def roles(conn: Connection, context: Context, tables: Sequence[Table]) -> dict[str, Known]:
    """Every role that holds rights on the shared side's tables, is declared, or was seen to use them."""
    known: dict[str, Known] = {}

    def add(name: str, source: str, *, writes: bool) -> None:
        role = known.setdefault(name, Known(name, set()))
        role.sources.add(source)
        role.writes = role.writes or writes

    for grant in context.grants:
        add(grant.role, "declared", writes=bool({"insert", "update", "delete", "truncate"} & set(grant.privileges)))
    oids = {"tables": [table.oid for table in tables]}
    for name, writes in conn.execute(SQL["holders"], oids).fetchall():
        add(name, "catalog", writes=writes)
    for name, writes in _used(conn, oids):
        add(name, "used", writes=writes)
    left = set(context.options.roles_left_behind)
    return {name: role for name, role in known.items() if name not in left}


def members(conn: Connection, names: Iterable[str]) -> list[tuple[str, str]]:
    """Memberships in those roles, at any depth: (role, member)."""
    return [(role, member) for role, member in conn.execute(SQL["members"], {"roles": list(names)}).fetchall()]


def rights(conn: Connection, names: Iterable[str], tables: Iterable[Table]) -> set[Right]:
    """All that the roles may do here with the tables, inherited rights included."""
    listed = list(tables)
    arguments = {
        "roles": list(names),
        "schemas": [table.name.schema for table in listed],
        "names": [table.name.name for table in listed],
    }
    return {Right(*row) for row in conn.execute(SQL["rights"], arguments).fetchall()}


def _used(conn: Connection, oids: dict[str, list[int]]) -> list[tuple[str, bool]]:
    schema = conn.execute(_STATEMENTS).fetchone()
    if schema is None:
        return []
    try:
        with conn.transaction():
            return conn.execute(SQL["used"].format(schema=sql.Identifier(schema[0])), oids).fetchall()
    except psycopg.Error:  # not loaded, or not ours to read
        return []
