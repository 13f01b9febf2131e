"""What a server's catalog says of a table: the facts that copy, apply, diff and checks stand on.

Object identifiers differ between servers, so sides are compared by name and by ``format_type`` text.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from contexts import sqlfiles
from contexts.databases import Connection
from contexts.model import TableName

FIRST_USER_OID = 16384  # FirstNormalObjectId of PostgreSQL's access/transam.h
_SQL = sqlfiles.load("contexts", "catalog.sql")


class Generated(enum.StrEnum):
    """``pg_attribute.attgenerated``."""

    NO = ""
    STORED = "s"
    VIRTUAL = "v"


class Identity(enum.StrEnum):
    """``pg_attribute.attidentity``."""

    NO = ""
    ALWAYS = "a"
    BY_DEFAULT = "d"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``type_sql`` is ``format_type``: schema-qualified, with modifiers."""

    name: str
    type_sql: str
    type_oid: int
    typmod: int
    #: The type under all domains.
    base_type_oid: int
    base_type_sql: str
    #: ``pg_type.typtype`` of the base type: b(ase), c(omposite), e(num), r(ange), m(ultirange), p(seudo).
    base_kind: str
    #: Element type of an array's base type, 0 otherwise.
    element_oid: int
    not_null: bool
    identity: Identity
    generated: Generated
    #: Schema-qualified collation; empty where the type has none.
    collation: str
    #: Whether equal values under the collation are equal bytes.
    collation_deterministic: bool
    #: The modifier of the base type, which the innermost domain gives.
    base_typmod: int = -1
    #: Whether a domain refuses NULL, whatever the column says.
    domain_not_null: bool = False

    @property
    def is_builtin(self) -> bool:
        """Whether the type has the same OID on every server (a domain does not)."""
        return self.type_oid < FIRST_USER_OID

    @property
    def is_written(self) -> bool:
        """Whether a value is stored through INSERT or COPY (generated columns are computed)."""
        return self.generated is Generated.NO


@dataclass(frozen=True, slots=True)
class Table:
    """One plain table or leaf partition, or a partitioned root (``kind == "p"``)."""

    name: TableName
    oid: int
    #: ``pg_class.relkind``: r(elation) or p(artitioned).
    kind: str
    #: ``pg_class.relreplident``: d(efault), n(othing), f(ull), i(ndex).
    replica_identity: str
    owner: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    #: Columns of the replica identity: the key, the index's columns, or all (full).
    identity_key: tuple[str, ...]
    #: Bytes with TOAST, without indexes.
    bytes: int
    #: The planner's row estimate; -1 where the table was never analysed.
    estimated_rows: int

    @property
    def written_columns(self) -> tuple[Column, ...]:
        """The columns that a copy and a change carry."""
        return tuple(column for column in self.columns if column.is_written)

    def column(self, name: str) -> Column:
        """The column ``name``.

        :raises KeyError: no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def identifier(self) -> sql.Identifier:
        """The quoted, qualified name for composing SQL."""
        return sql.Identifier(*self.name)


def read_tables(conn: Connection, names: Iterable[TableName]) -> dict[TableName, Table]:
    """The tables that exist among ``names``, with the partitions of partitioned ones (at any depth) added.

    Missing names are simply not in the answer: the caller knows whether that is an error.
    """
    wanted = list(names)
    arguments = ([n.schema for n in wanted], [n.name for n in wanted])
    tables = conn.execute(_SQL["tables"], arguments).fetchall()
    oids = [table[0] for table in tables]
    columns: dict[int, list[Column]] = {}
    for row in conn.execute(_SQL["columns"], (oids, oids)):
        columns.setdefault(row[0], []).append(_column(row[1:]))
    return {
        TableName(schema, name): Table(
            TableName(schema, name), oid, kind, replident, owner, tuple(columns.get(oid, ())), tuple(pk),
            tuple(key), size, rows,
        )
        for oid, schema, name, kind, replident, owner, pk, key, size, rows in tables
    }  # fmt: skip


def leaves(tables: Iterable[Table]) -> list[Table]:
    """The tables that hold rows: everything but partitioned roots."""
    return [table for table in tables if table.kind != "p"]


def _column(row: tuple[Any, ...]) -> Column:
    fields: list[Any] = [*row[:-6], Identity(row[-6]), Generated(row[-5]), *row[-4:]]
    return Column(*fields)
