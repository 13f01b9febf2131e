"""What the generated functions of lockstep need to know of a context's tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from contexts.catalog import Column, Table
from contexts.databases import Connection
from contexts.model import TableName

#: Types whose text no setting changes: keys of other types are written under pinned settings.
_PLAIN_OIDS = frozenset({16, 18, 19, 20, 21, 23, 25, 1042, 1043, 1700, 2950})

#: As :mod:`contexts.databases` pins them, so that a value has one text on both servers.
PINNED = sql.SQL(
    " SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET extra_float_digits = 3 SET timezone = 'UTC'"
    " SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmloption = 'content'"
)


@dataclass(frozen=True)
class Shape:
    """One table that an application may write, with its number in the context."""

    number: int
    table: Table
    #: A secondary unique or exclusion constraint: a value may move between rows of one transaction.
    values_move: bool
    #: Rules or versions look at every change: they need the row as it was.
    watched: bool = False

    @property
    def name(self) -> TableName:
        """The table's name, the same on both sides."""
        return self.table.name

    @property
    def key(self) -> list[Column]:
        """The primary key."""
        return [self.table.column(name) for name in self.table.primary_key]

    @property
    def columns(self) -> list[Column]:
        """What is carried, in the order of the names: the sides may order their columns differently."""
        return sorted(self.table.written_columns, key=lambda column: column.name)

    @property
    def key_is_plain(self) -> bool:
        """Whether the key's text is the same under any setting."""
        return all(column.type_oid in _PLAIN_OIDS for column in self.key)


def shapes(conn: Connection, tables: Sequence[Table], watched: Collection[TableName] = ()) -> list[Shape]:
    """The tables in the order of their names, without partitions: those are written through their roots' shapes."""
    moving = _values_move(conn, tables)
    roots = sorted((table for table in tables if not _is_partition(conn, table)), key=lambda table: table.name)
    return [Shape(number, table, table.oid in moving, table.name in watched) for number, table in enumerate(roots)]


def partitions(conn: Connection, tables: Sequence[Table]) -> Iterator[tuple[Table, int]]:
    """Each partition with the object id of its topmost root."""
    for table in tables:
        row = conn.execute("SELECT pg_partition_root(%s)::oid::int8", (table.oid,)).fetchone()
        if row and row[0] not in (None, table.oid):
            yield table, row[0]


def _is_partition(conn: Connection, table: Table) -> bool:
    row = conn.execute("SELECT relispartition FROM pg_class WHERE oid = %s", (table.oid,)).fetchone()
    return bool(row and row[0])


def _values_move(conn: Connection, tables: Sequence[Table]) -> set[int]:
    rows = conn.execute(
        "SELECT DISTINCT indrelid::int8 FROM pg_index WHERE indrelid = ANY (%s::oid[]) AND NOT indisprimary"
        " AND (indisunique OR indisexclusion)",
        ([table.oid for table in tables],),
    )
    return {oid for (oid,) in rows}


def column(name: str) -> sql.Composed:
    """A column of the table aliased ``t``."""
    return sql.SQL("t.{}").format(sql.Identifier(name))


def text(name: str) -> sql.Composed:
    """A column's text by its output function (a cast would lose the blanks of ``char(n)``), NULL for NULL."""
    return sql.SQL(
        "CASE WHEN pg_catalog.num_nulls({0}) OPERATOR(pg_catalog.=) 0 THEN pg_catalog.concat({0}) END"
    ).format(column(name))


def comma(parts: Sequence[sql.Composable]) -> sql.Composed:
    """The parts with commas between them."""
    return sql.SQL(", ").join(parts)


def matches(key: Sequence[Column], other: str) -> sql.Composed:
    """``t`` is the row whose key the columns ``k0``, ``k1``, ... of ``other`` hold."""
    terms = [
        sql.SQL("{} = {}").format(column(one.name), sql.Identifier(other, f"k{place}")) for place, one in enumerate(key)
    ]
    return sql.SQL(" AND ").join(terms)


def typed(key: Sequence[Column], element: sql.SQL) -> list[sql.Composed]:
    """The texts of a key in the key's types.

    :param element: gives the text at a place, counted from 0.
    """
    return [
        sql.SQL("({})::{}").format(element.format(sql.Literal(place)), sql.SQL(one.type_sql))
        for place, one in enumerate(key)
    ]


def typed_key(key: Sequence[Column], element: sql.SQL) -> sql.Composed:
    """The same as ``k0``, ``k1``, ..."""
    return comma([
        sql.SQL("{} AS {}").format(value, sql.Identifier(f"k{place}"))
        for place, value in enumerate(typed(key, element))
    ])  # fmt: skip
