"""The 64-bit hash of a row: what two servers must agree on to call a row equal.

PostgreSQL's own type hashes are fast, but they serve equality, not identity, and three of them lose bits whatever
the seed: ``numeric`` leaves out sign and scale, ``bigint`` folds its halves together (so -5 is 4294967291), and so
do timestamps. A bigint is hashed with its lost half beside it, the others as the bytes of their wire format.

Each column's hash has a seed of its own and they are joined by XOR, which costs least: a record has to be built
before it is hashed. A record's hash is a weighted sum of its columns', so two rows that swap a value leave the sum over
a segment as it is two times out of three; with XOR it is one in 10^8 ((3/4)^64), and the last hash over all makes it
2^-64. (hashfunc.c, numeric.c, rowtypes.c of PostgreSQL.)
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from contexts.catalog import Column

#: Builtin types by OID (pg_type.dat, the same on every server) with a hash of their own; ``{1}`` and ``{2}`` are seeds.
DIRECT = {
    16: "hashint4extended({0}::int4, {1})",  # boolean
    20: "hashint8extended({0}, {1}) # hashint8extended({0} >> 32, {2})",  # bigint
    21: "hashint2extended({0}, {1})",  # smallint
    23: "hashint4extended({0}, {1})",  # integer
    25: "hashtextextended({0}, {1})",  # text
    1043: "hashtextextended({0}, {1})",  # varchar
    2950: "uuid_hash_extended({0}, {1})",  # uuid
}
#: Builtin types whose hash, or whose bytes, enter a record that is hashed as a whole.
RECORD = {
    17: "{}",  # bytea
    18: "charsend({})",  # "char": its text form changed in PostgreSQL 16
    1082: "{}",  # date
    1083: "time_send({})",
    1114: "timestamp_send({})",
    1184: "timestamptz_send({})",
    1700: "numeric_send({})",
}
_TEXT_TYPES = (25, 1043)


@dataclass(frozen=True, slots=True)
class ColumnPair:
    """A column by name, with its types on the two sides."""

    name: str
    open: Column
    closed: Column

    @property
    def exact_oid(self) -> int:
        """The type whose hash or bytes are identity; 0 where only the text form is."""
        oid = self.open.base_type_oid
        if oid != self.closed.base_type_oid:
            return 0
        deterministic = self.open.collation_deterministic and self.closed.collation_deterministic
        return oid if deterministic or oid not in _TEXT_TYPES else 0


@dataclass(frozen=True, slots=True)
class RowHash:
    """Composes hash expressions over a table aliased ``t``; the same SQL goes to both servers."""

    #: Random per run, so an unlucky collision does not survive a second run.
    seed: int
    #: The servers store text in different encodings: their bytes are compared as UTF-8.
    recode: bool = False

    def row(self, pairs: Sequence[ColumnPair]) -> sql.Composed:
        """The hash of the columns together."""
        seeds = random.Random(self.seed)
        terms: list[sql.Composable] = []
        record: list[sql.Composable] = []
        texts: list[sql.Composable] = []
        for pair in pairs:
            oid, name = pair.exact_oid, column(pair.name)
            if oid in DIRECT and not (self.recode and oid in _TEXT_TYPES):
                terms.append(_direct(DIRECT[oid], name, seeds))
            elif oid in RECORD:
                record.append(sql.SQL(RECORD[oid]).format(name))
            else:
                texts.append(name)
        return self._joined(terms, record, texts, seeds)

    def column(self, pair: ColumnPair) -> sql.Composed:
        """The hash of one column."""
        return self.row([pair])

    def match(self, pairs: Sequence[ColumnPair]) -> sql.Composed:
        """The hash of a key: equal for keys that a unique index calls equal although their scale differs."""
        texts = [_trimmed(p) if is_numeric(p) else column(p.name) for p in pairs]
        if not any(map(is_numeric, pairs)):
            return self.row(pairs)
        return self._joined([], [], texts, random.Random(self.seed))

    def _joined(
        self,
        terms: Sequence[sql.Composable],
        record: Sequence[sql.Composable],
        texts: Sequence[sql.Composable],
        seeds: random.Random,
    ) -> sql.Composed:
        if texts:
            record = [*record, self._text(texts)]
        if record:
            whole = sql.SQL("hash_record_extended(ROW({}), {})")
            terms = [*terms, whole.format(sql.SQL(", ").join(record), _seed(seeds))]
        return sql.SQL("hashint4extended(0, {})").format(sql.SQL(" # ").join(terms))

    def _text(self, values: Iterable[sql.Composable]) -> sql.Composable:
        # A record's text runs the output functions (a cast may run something else) and quotes: '' is not NULL.
        text = sql.SQL("ROW({})::text").format(sql.SQL(", ").join(values))
        return sql.SQL("convert_to({}, 'UTF8')").format(text) if self.recode else text


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


def _direct(template: str, name: sql.Composable, seeds: random.Random) -> sql.Composable:
    """A column's hash; NULL has one, too: a number that no run shares with another."""
    hashed = sql.SQL(template).format(name, _seed(seeds), _seed(seeds))
    return sql.SQL("coalesce({}, {})").format(hashed, _seed(seeds))


def _seed(seeds: random.Random) -> sql.Composable:
    return sql.SQL("{}::int8").format(sql.Literal(seeds.getrandbits(63)))
