"""Rows as the text format of COPY (PostgreSQL manual, COPY, "Text Format")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from cdc.events import Value

# UTF-8 never holds these bytes, so they stand for the separators while the values are escaped: escaping then
# costs a few passes over a whole block in C instead of a look at every value.
_COLUMN, _ROW, _NULL = b"\xff", b"\xfe", b"\xfd"
_ESCAPES = ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r"))
_SEPARATORS = bytes.maketrans(_COLUMN + _ROW, b"\t\n")
_BLOCK_ROWS = 1_000


def blocks(rows: Iterable[Sequence[Value]]) -> Iterator[bytes]:
    """The rows as COPY text, in blocks of many rows each.

    :raises ValueError: a value is missing where one must be written, or is not UTF-8.
    """
    source = iter(rows)
    while some := list(islice(source, _BLOCK_ROWS)):
        yield encode(some)


def encode(rows: Sequence[Sequence[Value]]) -> bytes:
    """All ``rows`` (at least one, equally long) as one block of COPY text; see :func:`blocks`."""
    try:
        lines = [_COLUMN.join(row) for row in rows]  # type: ignore[arg-type]  # a TypeError is the slow way's sign
        nulls = 0
    except TypeError:
        lines, nulls = _lines_with_nulls(rows)
    block = _ROW.join(lines)
    width = len(rows[0])
    if (block.count(_COLUMN), block.count(_ROW), block.count(_NULL)) != ((width - 1) * len(rows), len(rows) - 1, nulls):
        raise ValueError("a value is not UTF-8 text")
    for special, escaped in _ESCAPES:
        if special in block:
            block = block.replace(special, escaped)
    block = block.translate(_SEPARATORS)
    return (block.replace(_NULL, b"\\N") if nulls else block) + b"\n"


def _lines_with_nulls(rows: Sequence[Sequence[Value]]) -> tuple[list[bytes], int]:
    lines, nulls = [], 0
    for row in rows:
        if empty := row.count(None):
            nulls += empty
            row = [_NULL if value is None else value for value in row]
        try:
            lines.append(_COLUMN.join(row))  # type: ignore[arg-type]
        except TypeError:
            raise ValueError("a value is missing") from None
    return lines, nulls
