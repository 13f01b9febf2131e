"""What is compared of one table, and the SQL that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from contexts import sqlfiles
from contexts.catalog import Column, Table
from contexts.model import TableName
from validations.diff import rowhash
from validations.diff.model import Key, Method, Range, Share
from validations.diff.rowhash import ColumnPair, RowHash, escaped

_SQL = sqlfiles.load("validations.diff", "diff.sql")
_PART_SHIFT, _BUCKET_SHIFT = 40, 8  # different bits of the hash divide segments and buckets

#: Builtin types whose btree order is the same on every server.
_ORDERED = frozenset({17, 20, 21, 23, 26, 1082, 1083, 1114, 1184, 1700, 2950})
_TEXTS = frozenset({25, 1043})


@dataclass(frozen=True, slots=True)
class Subject:
    """A table on both sides."""

    open: Table
    closed: Table
    pairs: tuple[ColumnPair, ...]
    key: tuple[ColumnPair, ...]
    hash: RowHash

    @property
    def name(self) -> TableName:
        """The table's name, the same on both sides."""
        return self.open.name

    @property
    def method(self) -> Method:
        """How a comparison by hash divides the rows."""
        return Method.HASH if self.key else Method.BAG

    def side(self, table: Table) -> list[Column]:
        """The key's columns as ``table``, one of the two, has them."""
        return [p.open if table is self.open else p.closed for p in self.key]

    def statement(self, name: str, table: Table, **parts: sql.Composable) -> sql.Composed:
        """A statement of ``diff.sql`` for one side; it has to be executed with parameters, be they empty."""
        return _SQL[name].format(
            table=escaped(table.identifier()),
            row_hash=self.hash.row(self.pairs),
            key_text=rowhash.key_text(self.key),
            columns=_list([rowhash.column(p.name) for p in self.key]),
            **parts,
        )

    def share(self, share: Share) -> sql.Composable:
        """The condition that a row belongs to a segment by hash."""
        if share.of == 1:
            return sql.SQL("true")
        return sql.SQL("({} >> {}) & {}::int8 = {}").format(
            self._spread(), _PART_SHIFT, sql.Literal(share.of - 1), sql.Literal(share.part)
        )

    def bucket(self, buckets: int) -> sql.Composable:
        """The number of a row's bucket; ``buckets`` is a power of two."""
        return sql.SQL("(({} >> {}) & {}::int8)").format(self._spread(), _BUCKET_SHIFT, sql.Literal(buckets - 1))

    def within(self, table: Table, bounds: Range) -> sql.Composable:
        """The condition that a key lies in a range."""
        columns = self.side(table)
        ends = [
            sql.SQL("({}) {} ({})").format(
                _list([rowhash.column(c.name) for c in columns]),
                sql.SQL(operator),
                _list([cast(escaped(sql.Literal(text)), c) for text, c in zip(key, columns, strict=True)]),
            )
            for operator, key in ((">=", bounds.lower), ("<", bounds.upper))
            if key is not None
        ]
        return sql.SQL(" AND ").join(ends) if ends else sql.SQL("true")

    def within_each(self, table: Table) -> sql.Composable:
        """The condition that a key lies in the range that :meth:`bounds` joins."""
        columns = self.side(table)
        return sql.SQL("({key}) >= ({lower}) AND ({key}) < ({upper})").format(
            key=_list([rowhash.column(c.name) for c in columns]),
            lower=_list([cast(sql.Identifier("b", f"l{i}"), c) for i, c in enumerate(columns)]),
            upper=_list([cast(sql.Identifier("b", f"u{i}"), c) for i, c in enumerate(columns)]),
        )

    def bounds(self, ranges: Sequence[Range]) -> tuple[sql.Composable, dict[str, Any]]:
        """Closed ranges as the FROM item ``b``, numbered from 1, and its parameters."""
        lower = [r.lower or () for r in ranges]
        upper = [r.upper or () for r in ranges]
        columns = {f"l{i}": [k[i] for k in lower] for i in range(len(self.key))}
        columns |= {f"u{i}": [k[i] for k in upper] for i in range(len(self.key))}
        return _unnest("b", columns, numbered=True), columns

    def keys(self, keys: Sequence[Key]) -> tuple[sql.Composable, dict[str, Any]]:
        """Keys as the FROM item ``w`` and its parameters."""
        columns = {f"k{i}": [key[i] for key in keys] for i in range(len(self.key))}
        return _unnest("w", columns, numbered=False), columns

    def join(self, table: Table) -> sql.Composable:
        """The condition that joins ``t`` to :meth:`keys`."""
        return sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(rowhash.column(c.name), cast(sql.Identifier("w", f"k{i}"), c))
            for i, c in enumerate(self.side(table))
        )

    def _spread(self) -> sql.Composed:
        return self.hash.match(self.key) if self.key else self.hash.row(self.pairs)


def orders_alike(pairs: Sequence[ColumnPair], *, byte_order: bool) -> bool:
    """Whether both servers' indexes order the key alike.

    :param byte_order: both databases' default collation orders text by bytes.
    """
    return bool(pairs) and all(_orders_alike(p, byte_order) for p in pairs)


def cast(value: sql.Composable, column: Column) -> sql.Composable:
    """Text as a value of the column, under the column's collation: so its index is used."""
    typed = sql.SQL("({}::text::{})").format(value, escaped(sql.SQL(column.type_sql)))
    if not column.collation:
        return typed
    return sql.SQL("{} COLLATE {}").format(typed, escaped(sql.Identifier(*column.collation.split(".", 1))))


def _orders_alike(pair: ColumnPair, byte_order: bool) -> bool:
    oid = pair.open.base_type_oid
    if oid != pair.closed.base_type_oid:
        return False
    if oid not in _TEXTS:
        return oid in _ORDERED
    collations = {pair.open.collation, pair.closed.collation}
    bytewise = {"pg_catalog.C", "pg_catalog.POSIX"} | ({"pg_catalog.default"} if byte_order else set())
    return collations <= bytewise


def _unnest(alias: str, columns: dict[str, list[str]], *, numbered: bool) -> sql.Composable:
    names = [sql.Identifier(name) for name in columns]
    if numbered:
        names.append(sql.Identifier("n"))
    return sql.SQL("unnest({}) {} AS {} ({})").format(
        _list([sql.SQL("{}::text[]").format(sql.Placeholder(name)) for name in columns]),
        sql.SQL("WITH ORDINALITY" if numbered else ""),
        sql.Identifier(alias),
        _list(names),
    )


def _list(items: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(items)
