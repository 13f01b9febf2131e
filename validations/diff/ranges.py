"""A segment of key ranges: sums first, then narrower ranges where they differ, then rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from psycopg import sql

from contexts.catalog import Table
from validations.diff import rows
from validations.diff.model import Difference, DiffOptions, Range, Ranges
from validations.diff.plan import cuts_within
from validations.diff.sessions import Pair, Query, Rows
from validations.diff.subject import Subject

_SPLIT = 16
_AT_ONCE = 16  # ranges of one statement: short ones let others through, and can be followed by a rest
_ONE = sql.SQL("(VALUES (1::int8)) AS b (n)")


@dataclass(frozen=True, slots=True)
class Sum:
    """What a side answers for one range: the count and the sum of the row hashes, as an exact integer."""

    rows: int
    total: object


@dataclass(frozen=True, slots=True)
class Differing:
    """A range whose sums differ."""

    bounds: Range
    open: Sum
    closed: Sum

    @property
    def rows(self) -> int:
        """Rows on the side that has more."""
        return max(self.open.rows, self.closed.rows)


@dataclass(frozen=True, slots=True)
class RangeComparison:
    """Compares the ranges of one table."""

    pair: Pair
    subject: Subject
    options: DiffOptions

    def segment(self, extent: Ranges) -> tuple[int, int, Iterator[Difference]]:
        """The rows of both sides and, lazily, the differences."""
        self.pair.seqscan(False)
        ranges = extent.split()
        sums = self._sums(ranges)
        differing = [Differing(r, *s) for r, s in zip(ranges, sums, strict=True) if s[0] != s[1]]
        return sum(s[0].rows for s in sums), sum(s[1].rows for s in sums), self._narrow(differing)

    def _narrow(self, differing: Iterable[Differing]) -> Iterator[Difference]:
        small: list[Differing] = []
        for found in differing:
            narrower = self._split(found) if found.rows > self.options.leaf_rows else []
            if narrower:
                yield from self._narrow(narrower)
                continue
            small.append(found)
            if sum(f.rows for f in small) >= self.options.range_rows:
                yield from self._rows([f.bounds for f in small])
                small = []
        yield from self._rows([f.bounds for f in small])

    def _split(self, found: Differing) -> list[Differing]:
        """Those of the narrower ranges that differ; none where the range has too few distinct keys to split."""
        # The side with more rows knows better where the keys are.
        session, table = (
            (self.pair.open, self.subject.open)
            if found.open.rows >= found.closed.rows
            else (self.pair.closed, self.subject.closed)
        )
        step = max(1, min(found.rows // _SPLIT, self.options.leaf_rows))
        cuts = cuts_within(session, self.subject, table, found.bounds, step)
        ranges = Ranges(found.bounds.lower, found.bounds.upper, tuple(cuts)).split()
        if len(ranges) == 1:
            return []
        return [Differing(r, *s) for r, s in zip(ranges, self._sums(ranges), strict=True) if s[0] != s[1]]

    def _rows(self, ranges: Sequence[Range]) -> Iterator[Difference]:
        for chunk in _chunks(ranges):
            found = rows.compare(*self._ask("range_rows", chunk))
            yield from rows.named(self.pair, self.subject, found, values=self.options.show_values)

    def _sums(self, ranges: Sequence[Range]) -> list[tuple[Sum, Sum]]:
        sums: list[tuple[Sum, Sum]] = []
        for chunk in _chunks(ranges):
            ours, theirs = ({n: Sum(*row) for n, *row in side} for side in self._ask("range_sums", chunk))
            sums += [(ours[n], theirs[n]) for n in range(1, len(chunk) + 1)]
        return sums

    def _ask(self, statement: str, chunk: Sequence[Range]) -> tuple[Rows, Rows]:
        subject = self.subject
        single = _is_open(chunk[0])
        bounds, parameters = (_ONE, dict[str, Any]()) if single else subject.bounds(chunk)

        def query(table: Table) -> Query:
            condition = subject.within(table, chunk[0]) if single else subject.within_each(table)
            return subject.statement(statement, table, bounds=bounds, condition=condition), parameters

        return self.pair.ask(subject, query)


def _chunks(ranges: Sequence[Range]) -> Iterator[list[Range]]:
    """Ranges that one statement answers: closed ones in a row, or one open one.

    An open end is never written as a value: no type has a value that no key can have.
    """
    for is_open, run in groupby(ranges, _is_open):
        together = list(run)
        size = 1 if is_open else _AT_ONCE
        yield from (together[start : start + size] for start in range(0, len(together), size))


def _is_open(bounds: Range) -> bool:
    return bounds.lower is None or bounds.upper is None
