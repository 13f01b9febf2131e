"""The 64-bit hash of a row: what two servers must agree on to call a row equal.

PostgreSQL's own type hashes are fast, but they serve equality, not identity, and three of them lose bits whatever
the seed: ``numeric`` leaves out sign and scale, ``bigint`` folds its halves together (so -5 is 4294967291), and so
do timestamps. Such columns are hashed as the bytes of their wire format.
A record's hash is a weighted sum of its columns' hashes, so two swapped values would cancel out in the sum over a
segment: a last hash over it makes it nonlinear (hashfn.c, rowtypes.c, numeric.c of PostgreSQL).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from contexts.catalog import Column

#: Builtin types by OID (pg_type.dat, the same on every server) and what is hashed of a value ``{}``.
EXACT = {
    16: "{}",  # boolean
    17: "{}",  # bytea
    18: "charsend({})",  # "char": its text form changed in PostgreSQL 16
    20: "int8send({})",
    21: "{}",  # smallint
    23: "{}",  # integer
    25: "{}",  # text
    1043: "{}",  # varchar
    1082: "{}",  # date
    1083: "time_send({})",
    1114: "timestamp_send({})",
    1184: "timestamptz_send({})",
    1700: "numeric_send({})",
    2950: "{}",  # uuid
}
_TEXT_TYPES = (25, 1043)


@dataclass(frozen=True, slots=True)
class ColumnPair:
    """A column by name, with its types on the two sides."""

    name: str
    open: Column
    closed: Column

    @property
    def exact(self) -> str | None:
        """The template of :data:`EXACT`, or None where only the text form is identity."""
        oid = self.open.base_type_oid
        if oid != self.closed.base_type_oid:
            return None
        deterministic = self.open.collation_deterministic and self.closed.collation_deterministic
        return EXACT.get(oid) if deterministic or oid not in _TEXT_TYPES else None


@dataclass(frozen=True, slots=True)
class RowHash:
    """Composes hash expressions over a table aliased ``t``; the same SQL goes to both servers."""

    #: Random per run, so an unlucky collision does not survive a second run.
    seed: int
    #: The servers store text in different encodings: their bytes are compared as UTF-8.
    recode: bool = False

    def row(self, pairs: Sequence[ColumnPair]) -> sql.Composed:
        """The hash of the columns together."""
        return self._final(self.items(pairs))

    def column(self, pair: ColumnPair) -> sql.Composed:
        """The hash of one column."""
        return self._final(self.items([pair]))

    def match(self, pairs: Sequence[ColumnPair]) -> sql.Composed:
        """The hash of a key: equal for keys that a unique index calls equal although their scale differs."""
        items = [
            self._text([_trimmed(p)]) if is_numeric(p) else item for p in pairs for item in self.items([p])
        ]  # fmt: skip
        return self._final(items)

    def items(self, pairs: Sequence[ColumnPair]) -> list[sql.Composable]:
        """What is hashed: exact columns one by one, all others in one text of their output functions."""
        items = [self._exact(p) for p in pairs if p.exact]
        if others := [column(p.name) for p in pairs if not p.exact]:
            items.append(self._text(others))
        return items

    def _exact(self, pair: ColumnPair) -> sql.Composable:
        template = pair.exact or "{}"
        item = sql.SQL(template).format(column(pair.name))
        if self.recode and pair.open.base_type_oid in _TEXT_TYPES:
            return sql.SQL("convert_to({}, 'UTF8')").format(item)
        return item

    def _text(self, values: Iterable[sql.Composable]) -> sql.Composable:
        # A record's text runs the output functions (a cast may run something else) and quotes: '' is not NULL.
        text = sql.SQL("ROW({})::text").format(sql.SQL(", ").join(values))
        return sql.SQL("convert_to({}, 'UTF8')").format(text) if self.recode else text

    def _final(self, items: Iterable[sql.Composable]) -> sql.Composed:
        return sql.SQL("hashint4extended(0, hash_record_extended(ROW({}), {}::int8))").format(
            sql.SQL(", ").join(items), sql.Literal(self.seed)
        )


def column(name: str) -> sql.Composed:
    """A column of the table aliased ``t``."""
    return sql.SQL("t.{}").format(escaped(sql.Identifier(name)))


def escaped(part: sql.Composable) -> sql.SQL:
    """A name or literal with its percent signs doubled: psycopg looks for placeholders inside quotes, too."""
    return sql.SQL(part.as_string().replace("%", "%%"))


def key_text(pairs: Sequence[ColumnPair]) -> sql.Composed:
    """The key's columns as a text array, by their output functions."""
    texts = [
        sql.SQL("concat({})").format(_trimmed(p) if is_numeric(p) else column(p.name)) for p in pairs
    ]  # fmt: skip
    return sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(texts))


def value_text(pair: ColumnPair) -> sql.Composed:
    """A column's text, NULL for NULL (``IS NULL`` would be true for a composite of NULLs)."""
    return sql.SQL("CASE WHEN num_nulls({0}) = 0 THEN concat({0}) END").format(column(pair.name))


def is_numeric(pair: ColumnPair) -> bool:
    """Whether both sides have ``numeric``, where equal keys may have different text."""
    return pair.open.base_type_oid == pair.closed.base_type_oid == 1700


def _trimmed(pair: ColumnPair) -> sql.Composed:
    return sql.SQL("trim_scale({})").format(column(pair.name))
