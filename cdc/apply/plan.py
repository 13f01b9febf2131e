"""How the changes of one relation of the stream are written to one table: columns by place, and the match key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from cdc.apply.coverage import Extent
from cdc.apply.target import EQUALS, Operator, Target, same_when_equal
from cdc.events import Relation, Row, Value
from cdc.source import packed

Places = tuple[int, ...]
#: The values of the match key: bare where it is one column. A hashable thing, compared as text.
Key = Any
_FULL_IDENTITY = "f"


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The facts are about places in the rows of ``relation``."""

    relation: Relation
    target: Target
    extent: Extent
    #: Columns that are written; the others are generated on the closed side.
    stored: Places
    #: The match key; empty where a row is found by all its values.
    key: Places
    #: Equality by key place, in the order of ``key``; None compares the text.
    key_operators: tuple[Operator | None, ...]
    #: Whether the closed side enforces that the key is unique, so that row counts prove that each key was found.
    key_is_unique: bool
    #: Columns outside the key that an UPDATE can name.
    settable: Places
    #: GENERATED ALWAYS identity columns outside the key: an UPDATE cannot name them, so it must find them equal.
    fixed: Places
    #: Stored columns of the closed side that the stream does not carry: a moved row must keep them.
    extras: tuple[str, ...]
    key_of: Callable[[Sequence[Value]], Key]
    #: The same of a packed record.
    packed_key_of: Callable[[bytes], Key]

    @property
    def is_strict(self) -> bool:
        """Whether a change that does not find its row is an error."""
        return self.extent is Extent.FULL

    @property
    def is_keyed(self) -> bool:
        """Whether rows are found by a key; otherwise by all their values."""
        return bool(self.key)

    def name(self, place: int) -> str:
        """The column at ``place``."""
        return self.relation.columns[place].name

    def operator(self, place: int) -> Operator | None:
        """How the value at ``place`` is compared; None compares the text."""
        if place in self.key:
            return self.key_operators[self.key.index(place)]
        return _plain_operator(self.target, self.name(place))

    def key_values(self, key: Key) -> tuple[Value, ...]:
        """A key of :attr:`key_of` as one value per column."""
        return (key,) if len(self.key) == 1 else key

    def row_of(self, kept: Row | bytes) -> Row:
        """A row, which may still be packed."""
        return next(packed.rows((kept,), self.relation)) if isinstance(kept, bytes) else kept

    def described(self, key: Key) -> str:
        """Table and key for an error message."""
        if not self.is_keyed:
            return f"a row of {self.relation.table} (it has no key)"
        names = ", ".join(self.name(place) for place in self.key)
        values = ", ".join(_shown(value) for value in self.key_values(key))
        return f"{self.relation.table} ({names})=({values})"


def make_plan(relation: Relation, target: Target, extent: Extent) -> Plan:
    """The plan for a relation that fits its target (see :mod:`cdc.apply.fit`)."""
    places = {column.name: place for place, column in enumerate(relation.columns)}
    key = tuple(places[name] for name in _key_names(relation, target))
    stored = tuple(place for name, place in places.items() if target.is_stored(name))
    fixed = tuple(p for p in stored if p not in key and target.is_always_identity(relation.columns[p].name))
    key_names = [relation.columns[place].name for place in key]
    return Plan(
        relation=relation,
        target=target,
        extent=extent,
        stored=stored,
        key=key,
        key_operators=tuple(_key_operator(target, name, key_names) for name in key_names),
        key_is_unique=any(set(unique.columns) <= set(key_names) for unique in target.unique_keys),
        settable=tuple(place for place in stored if place not in key and place not in fixed),
        fixed=fixed,
        extras=tuple(c.name for c in target.table.written_columns if c.name not in places),
        key_of=itemgetter(*key) if key else tuple,
        packed_key_of=packed.key_reader(key) if key else bytes,
    )


def picker(places: Places, width: int) -> Callable[[Sequence[Value]], Sequence[Value]] | None:
    """A function that takes ``places`` out of a row, or None where they are the whole row in order."""
    if places == tuple(range(width)):
        return None
    if len(places) == 1:
        (only,) = places
        return lambda row: (row[only],)
    return itemgetter(*places)


def filled(new: Row, known: Sequence[Value], hole: Value) -> Row:
    """``new`` with each ``hole`` filled by the value at its place in ``known``."""
    return [known[place] if value is hole else value for place, value in enumerate(new)]


def _key_names(relation: Relation, target: Target) -> tuple[str, ...]:
    """The primary key where the stream carries it, else the replica identity, else nothing: the whole row."""
    carried = {column.name for column in relation.columns if column.is_key}
    primary = target.table.primary_key
    # A deferrable key may hold duplicates in mid-transaction: the rows it names are not one row.
    immediate = any(unique.columns == primary for unique in target.unique_keys)
    if primary and immediate and set(primary) <= carried:
        return primary
    if relation.replica_identity == _FULL_IDENTITY:
        return ()
    return tuple(column.name for column in relation.columns if column.is_key)


def _key_operator(target: Target, name: str, key: Sequence[str]) -> Operator | None:
    """The operator of the unique index, so that the index finds the row."""
    for unique in target.unique_keys:
        if name in unique.columns and set(unique.columns) <= set(key):
            return unique.operators[unique.columns.index(name)]
    return _plain_operator(target, name)


def _plain_operator(target: Target, name: str) -> Operator | None:
    return EQUALS if same_when_equal(target.table.column(name)) else None


def _shown(value: Value) -> str:
    if not isinstance(value, bytes):
        return "null" if value is None else repr(value)
    text = value.decode("utf-8", "replace")
    return text if len(text) <= 100 else text[:100] + "..."
