"""What the applier must know of a table of the closed side beyond the shared catalog facts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

from cdc.apply import types
from contexts import sqlfiles
from contexts.catalog import Column, Identity, Table, read_tables
from contexts.databases import Connection
from contexts.model import TableName

_SQL = sqlfiles.load("cdc.apply", "target.sql")

#: Below FirstGenbkiObjectId (access/transam.h) OIDs are assigned by hand and equal on every server and version.
FIRST_UNFIXED_OID = 10_000
# Fixed by PostgreSQL's pg_type.dat. Two values of these types that are equal have the same text.
_EQUAL_MEANS_SAME = frozenset(
    {16, 17, 18, 19, 20, 21, 23, 26, 650, 774, 790, 829, 869, 1082, 1083, 1114, 1184, 1560, 1562, 2950, 3220}
)
_TEXT_TYPES = frozenset({25, 1043})
_NUMERIC = 1700


@dataclass(frozen=True, slots=True)
class Operator:
    """A qualified equality operator: the sessions' search path does not hold those of extensions."""

    schema: str
    name: str


EQUALS = Operator("pg_catalog", "=")


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique index that is enforced for every row at once, not at commit."""

    columns: tuple[str, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A table of the closed side."""

    table: Table
    #: By column: the type's name without modifiers, as a cast takes it.
    casts: dict[str, str]
    #: By column: the type in words (:mod:`cdc.apply.types`), where its OID means something else on the open side.
    types: dict[str, str]
    #: Columns that fill themselves when an insert does not name them.
    self_filling: frozenset[str]
    unique_keys: tuple[UniqueKey, ...]

    def is_stored(self, column: str) -> bool:
        """Whether ``column`` is written rather than computed."""
        return self.table.column(column).is_written

    def is_always_identity(self, column: str) -> bool:
        """Whether ``column`` is GENERATED ALWAYS AS IDENTITY, which an UPDATE cannot name."""
        return self.table.column(column).identity is Identity.ALWAYS


def read_target(conn: Connection, name: TableName) -> Target | None:
    """The table ``name`` as it is now, or None where there is none."""
    table = read_tables(conn, [name]).get(name)
    if table is None:
        return None
    cursor = psycopg.RawCursor(conn)
    columns = cursor.execute(_SQL["columns"], (table.oid,)).fetchall()
    keys = cursor.execute(_SQL["unique_keys"], (table.oid,)).fetchall()
    return Target(
        table,
        {name: cast for name, cast, _ in columns},
        {
            column.name: types.described(conn, column.type_oid, column.typmod) or column.type_sql
            for column in table.columns
            if column.type_oid >= FIRST_UNFIXED_OID
        },
        frozenset(name for name, _, fills in columns if fills),
        tuple(UniqueKey(tuple(names), tuple(map(Operator, schemas, ops))) for names, schemas, ops in keys),
    )


def is_owned(conn: Connection, name: TableName, tables: Iterable[TableName]) -> bool:
    """Whether ``name`` is one of ``tables`` or a partition of one."""
    return name in (wanted := list(tables)) or name in read_tables(conn, wanted)


def same_when_equal(column: Column) -> bool:
    """Whether ``=`` on the column tells values apart that differ as text (1.0 and 1.00, -0 and 0 must differ)."""
    oid = column.base_type_oid
    if oid in _TEXT_TYPES:
        return column.collation_deterministic
    if oid == _NUMERIC:
        return column.typmod != -1
    return oid in _EQUAL_MEANS_SAME or column.base_kind == "e"
