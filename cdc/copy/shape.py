"""How one table travels: which columns, in which format, and the statements for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import postgres, sql

from cdc.copy.model import Bound, Part, Strategy
from contexts.catalog import Column, Table
from contexts.errors import SchemaMismatch
from contexts.model import TableName

# Types whose binary form is the value alone: no OID of another object (as in regclass, records and arrays of user
# types), no dependence on a setting, and the same in all versions.
_BINARY_TYPES = (
    "bool", "int2", "int4", "int8", "oid", "float4", "float8", "numeric", "money", "text", "varchar", "bpchar",
    '"char"', "name", "bytea", "uuid", "bit", "varbit", "date", "time", "timetz", "timestamp", "timestamptz",
    "interval", "json", "jsonb", "inet", "cidr", "macaddr", "macaddr8", "point", "lseg", "path", "box", "polygon",
    "line", "circle", "tsvector", "tsquery", "pg_lsn", "int4range", "int8range", "numrange", "tsrange",
    "tstzrange", "daterange", "int4multirange", "int8multirange", "nummultirange", "tsmultirange",
    "tstzmultirange", "datemultirange",
)  # fmt: skip
_BINARY_OIDS = frozenset(
    oid for name in _BINARY_TYPES for oid in (postgres.types[name].oid, postgres.types[name].array_oid)
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What both sides agree on about a table."""

    table: TableName
    #: The written columns, in the order of the open side.
    columns: tuple[str, ...]
    #: The primary key of the open side; empty where there is none.
    key: tuple[str, ...]
    binary: bool


def match(source: Table, target: Table | None) -> Shape:
    """How rows of ``source`` get into ``target``.

    :raises SchemaMismatch: the closed side lacks the table or a column, or has one more.
    """
    if target is None:
        raise _mismatch(source.name, "the table is missing on the closed side")
    theirs = {column.name: column for column in target.written_columns}
    names = tuple(column.name for column in source.written_columns)
    if missing := [name for name in names if name not in theirs]:
        raise _mismatch(source.name, f"missing on the closed side: {', '.join(missing)}")
    if surplus := sorted(set(theirs) - set(names)):
        raise _mismatch(source.name, f"only on the closed side: {', '.join(surplus)}")
    binary = all(_same_binary(column, theirs[column.name]) for column in source.written_columns)
    return Shape(source.name, names, source.primary_key, binary)


def copy_out(shape: Shape, condition: sql.Composable | None) -> sql.Composed:
    """The COPY that reads the rows of a range."""
    where = sql.SQL(" WHERE {}").format(condition) if condition else sql.SQL("")
    return sql.SQL("COPY (SELECT {} FROM ONLY {}{}) TO STDOUT (FORMAT {})").format(
        _names(shape.columns), sql.Identifier(*shape.table), where, _format(shape)
    )


def copy_in(shape: Shape) -> sql.Composed:
    """The COPY that writes what :func:`copy_out` reads."""
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(
        sql.Identifier(*shape.table), _names(shape.columns), _format(shape)
    )


def delete(shape: Shape, condition: sql.Composable | None) -> sql.Composed:
    """Deletes the rows of a range."""
    where = sql.SQL(" WHERE {}").format(condition) if condition else sql.SQL("")
    return sql.SQL("DELETE FROM ONLY {}{}").format(sql.Identifier(*shape.table), where)


def within(part: Part, key: Sequence[str]) -> sql.Composable | None:
    """The condition for the rows of a part; None where it is the whole table."""
    left = sql.SQL("ctid") if part.strategy is Strategy.CTID else _row(map(sql.Identifier, key))
    sides = [
        sql.SQL("{} {} {}").format(left, sql.SQL(operator), _row(map(sql.Literal, bound)))
        for operator, bound in ((">=", part.lower), ("<", part.upper))
        if bound is not None
    ]
    return sql.SQL(" AND ").join(sides) if sides else None


def any_of(key: Sequence[str], rows: Sequence[Bound]) -> sql.Composed:
    """The condition for the rows with one of these keys."""
    listed = sql.SQL(", ").join(_row(map(sql.Literal, row)) for row in rows)
    return sql.SQL("{} IN ({})").format(_row(map(sql.Identifier, key)), listed)


def _row(items: Sequence[sql.Composable] | map[sql.Composable]) -> sql.Composed:
    # Literals carry no type of their own, so they take the column's, whatever its name is on this server.
    return sql.SQL("({})").format(sql.SQL(", ").join(items))


def _names(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _format(shape: Shape) -> sql.SQL:
    return sql.SQL("binary") if shape.binary else sql.SQL("text")


def _same_binary(ours: Column, theirs: Column) -> bool:
    same = ours.base_type_oid == theirs.base_type_oid and ours.type_sql == theirs.type_sql
    return same and ours.base_type_oid in _BINARY_OIDS


def _mismatch(table: TableName, problem: str) -> SchemaMismatch:
    return SchemaMismatch(
        f"{table}: {problem}",
        unchanged="no row was copied",
        next_step="write the missing revision of the closed side's schema",
    )
