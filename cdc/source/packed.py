"""Records that stay as the server sent them until they are written: inserts, and updates whose key did not change.

That is most of a stream. As bytes such a record takes a fifth of the memory of its values, and what a later change of
the same batch replaces is never decoded. Here a record carries no xid, wherever it was sent. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Final

from cdc.events import Insert, Relation, Row, Update
from cdc.source.pgoutput import INSERT, NEW, UNCHANGED_KIND, values
from cdc.source.wire import MISFITS, Misfit, malformed, must_end

#: What packed records of one kind, table and number of columns begin with.
HEAD: Final = slice(0, 8)
_COUNT: Final = slice(6, 8)
_COLUMNS: Final = 8
#: How a text of less than 256 bytes begins, but for the last byte of its length; and where the first one's text is.
_SHORT_TEXT: Final = b"t\0\0\0"
_FIRST: Final = _COLUMNS + 5
_TAGS: Final = b"IU"


def is_packed(record: bytes) -> bool:
    """Whether a record without xid holds a new row and nothing else."""
    return record[0] in _TAGS and len(record) >= _COLUMNS and record[5] == NEW


def is_insert(record: bytes) -> bool:
    """Whether a packed record is an insert; it is an update otherwise."""
    return record[0] == INSERT


def without_xid(record: bytes) -> bytes:
    """A record of a streamed transaction as it would be without streaming."""
    return record[:1] + record[5:]


def rows(records: Iterable[bytes], relation: Relation) -> Iterator[Row]:
    """The new rows of packed records of one table.

    :raises MalformedMessage: one is not of the form of the protocol, or of another relation.
    """
    count = len(relation.columns)
    head = count.to_bytes(2, "big")
    for record in records:
        try:
            if record[_COUNT] != head:
                raise Misfit(f"not {count} values, which is how many columns {relation.table} has")
            row, end = values(record, _COLUMNS, count)
            must_end(record, end)
        except MISFITS as error:
            raise malformed(record, error) from error
        yield row


def change(record: bytes, relation: Relation) -> Insert | Update:
    """A packed record as a change.

    :raises MalformedMessage: as for :func:`rows`.
    """
    (row,) = rows((record,), relation)
    return Insert(relation, row) if is_insert(record) else Update(relation, row, None, False)


def may_hold_unchanged(record: bytes) -> bool:
    """False where certainly none of the values is UNCHANGED; cheaper than to decode them."""
    return UNCHANGED_KIND in record


def key_reader(places: Sequence[int]) -> Callable[[bytes], Any]:
    """Reads the values at ``places`` (bare where it is one) from packed records, and nothing that comes after them.

    What it returns raises MalformedMessage.
    """
    pick, needed = itemgetter(*places), max(places) + 1

    def read(record: bytes) -> Any:
        try:
            row, end = values(record, _COLUMNS, needed)
            if end > len(record):
                raise Misfit(f"a value would end at byte {end}")
            return pick(row)
        except MISFITS as error:
            raise malformed(record, error) from error

    def read_first(record: bytes) -> Any:
        if len(record) >= _FIRST and record[_COLUMNS : _FIRST - 1] == _SHORT_TEXT:
            end = _FIRST + record[_FIRST - 1]
            if end <= len(record):
                return record[_FIRST:end]
        return read(record)

    return read_first if needed == 1 else read
