"""What a transaction of the stream made of its rows, as the ledger of lockstep sees them: a hash per column. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cdc.events import ABSENT, Delete, Insert, Relation, Row, Update, Value

_HASH_BYTES = 8

Key = tuple[int, tuple[str, ...]]
#: A hash per column, None for NULL, ABSENT where the stream does not say; the whole is None where the row is gone.
Image = list[object] | None


@dataclass(frozen=True)
class Ledgered:
    """How the ledger sees one table."""

    tab: int
    key: tuple[str, ...]
    columns: tuple[str, ...]
    #: Whether the ledger has its rows as they were before.
    watched: bool = False


class Places:
    """Where the ledger's columns stand in a relation of the stream."""

    def __init__(self, relation: Relation, ledgered: Ledgered | None) -> None:
        names = [column.name for column in relation.columns]
        known = ledgered or Ledgered(-1, tuple(c.name for c in relation.columns if c.is_key), tuple(names))
        self.name = relation.table
        self.tab = known.tab
        self.watched = known.watched
        self._width = len(names)
        self.key_names = known.key
        self._key = [names.index(name) for name in known.key]
        self._columns = [names.index(name) if name in names else None for name in known.columns]
        #: Columns of the stream that the shim does not carry yet.
        self.unknown = tuple(sorted(set(names) - set(known.columns)))

    def key_of(self, row: Row, old: Row | None = None) -> tuple[str, ...]:
        """The key as text; a key that was not sent again is in the old row."""
        values = [row[place] if isinstance(row[place], bytes) or old is None else old[place] for place in self._key]
        return tuple(value.decode() if isinstance(value, bytes) else repr(value) for value in values)

    def image(self, row: Row, before: Image) -> list[object]:
        """The hashes of a row; what was not sent is as it was before in the transaction, or not known."""
        hashes: list[object] = []
        for number, place in enumerate(self._columns):
            value: Value = ABSENT if place is None else row[place]
            if isinstance(value, bytes):
                hashes.append(sha256(value).digest()[:_HASH_BYTES])
            elif value is None:
                hashes.append(None)
            else:
                hashes.append(before[number] if before else ABSENT)
        return hashes

    def row(self, before: Sequence[str | None]) -> Row:
        """A row of the relation from the ledger's texts."""
        row: Row = [ABSENT] * self._width
        for place, value in zip(self._columns, before, strict=True):
            if place is not None:
                row[place] = None if value is None else value.encode()
        return row


def row_of(change: Insert | Update | Delete) -> Row:
    """The row that a change leaves, or takes away."""
    return change.old if isinstance(change, Delete) else change.new


def rows_of(change: Insert | Update | Delete) -> list[Row]:
    """Every image of a row that a change carries."""
    old = [] if isinstance(change, Insert) or change.old is None else [change.old]
    return old if isinstance(change, Delete) else [*old, change.new]
