"""What the diff takes and what it finds. A key is the text of its columns, in key order."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from contexts.model import Side, TableName

Key = tuple[str, ...]


class Verdict(enum.StrEnum):
    """What a comparison proves. Only EQUAL is green."""

    EQUAL = "equal"
    DIFFERENT = "different"
    #: Something was not compared: stopped, or a table that cannot be compared.
    INCOMPLETE = "incomplete"
    #: All was compared, and there was no row.
    NOTHING_COMPARED = "nothing_compared"


class Kind(enum.StrEnum):
    """How a row differs."""

    MISSING_ON_CLOSED = "missing_on_closed"
    MISSING_ON_OPEN = "missing_on_open"
    DIFFERENT = "different"


class Extent(enum.StrEnum):
    """What a verification was to compare."""

    FULL = "full"
    #: Given keys.
    DELTA = "delta"
    #: Some of the rows: a quick look, never a proof.
    SAMPLE = "sample"


class Method(enum.StrEnum):
    """How the rows of a table are divided."""

    #: By ranges of the primary key, through its index.
    RANGES = "ranges"
    #: By the hash of the key, in whole scans: where no index gives an order that both servers share.
    HASH = "hash"
    #: By the hash of the row, as a bag: a table without key.
    BAG = "bag"


@dataclass(frozen=True, slots=True)
class Range:
    """Keys from ``lower`` (inclusive) to ``upper`` (exclusive); None is open."""

    lower: Key | None
    upper: Key | None


@dataclass(frozen=True, slots=True)
class Ranges:
    """A segment of consecutive key ranges, cut at ``cuts``."""

    lower: Key | None
    upper: Key | None
    cuts: tuple[Key, ...] = ()

    def split(self) -> list[Range]:
        """The ranges between the cuts."""
        ends = [self.lower, *self.cuts, self.upper]
        return [Range(lower, upper) for lower, upper in pairwise(ends)]


@dataclass(frozen=True, slots=True)
class Share:
    """A segment of the rows whose hash falls on ``part``; ``of`` is a power of two."""

    part: int
    of: int


@dataclass(frozen=True, slots=True)
class Segment:
    """The unit of work, of progress and of going on after a kill."""

    table: TableName
    number: int
    extent: Ranges | Share


@dataclass(frozen=True, slots=True)
class Difference:
    """One key whose rows differ. In a bag the key is the hash of the row and ``count`` its surplus."""

    key: Key
    kind: Kind
    #: The columns that differ, where both sides have the row.
    columns: tuple[str, ...] = ()
    count: int = 1
    #: The values of ``columns``, only where they were asked for.
    open_values: tuple[str | None, ...] | None = None
    closed_values: tuple[str | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class DiffOptions:
    """How to compare; the defaults are gentle on both servers."""

    #: After this a new barrier is taken for the segments that are left.
    max_snapshot_age_s: float = 600.0
    #: Segments compared at the same time, each with one session per side.
    workers: int = 2
    #: ``max_parallel_workers_per_gather`` of our sessions.
    parallel_workers: int = 0
    #: Rows of one key range, the unit of the first answer.
    range_rows: int = 8_192
    ranges_per_segment: int = 64
    #: Ranges of at most so many rows are compared row by row.
    leaf_rows: int = 1_000
    #: Rows of one segment where a segment needs a scan of the table.
    scan_rows: int = 50_000_000
    #: Store the differing values beside their column names.
    show_values: bool = False
    #: Go on with an unfinished verification of the same tables.
    resume: bool = True
    #: Compare only about this part of the rows (above 0, at most 1), for a quick look; None: all.
    sample: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a diff is; given to its caller after each segment."""

    table: TableName
    segments_done: int
    segments: int
    rows: int
    differences: int
    #: Of all tables.
    all_done: int
    all_segments: int


@dataclass(frozen=True, slots=True)
class TableResult:
    """What is known of one table."""

    table: TableName
    #: None where the table cannot be compared; ``problem`` says why.
    method: Method | None
    problem: str
    segments: int
    segments_done: int
    rows_open: int
    rows_closed: int
    missing_on_closed: int
    missing_on_open: int
    different: int

    @property
    def differences(self) -> int:
        """Rows in all three classes."""
        return self.missing_on_closed + self.missing_on_open + self.different

    @property
    def verdict(self) -> Verdict:
        """What the comparison of this table proves."""
        if self.differences or self.rows_open != self.rows_closed:
            return Verdict.DIFFERENT
        if self.problem or self.segments == 0 or self.segments_done < self.segments:
            return Verdict.INCOMPLETE
        return Verdict.EQUAL if self.rows_open else Verdict.NOTHING_COMPARED


@dataclass(frozen=True, slots=True)
class DiffResult:
    """What a verification saw."""

    verification: int
    open_side: Side
    started_at: dt.datetime
    #: None while segments are left: the next diff of the same tables goes on with them.
    finished_at: dt.datetime | None
    #: When the oldest of the compared segments was compared: the age of the proof.
    oldest_at: dt.datetime | None
    lsn_first: int | None
    lsn_last: int | None
    schema_fingerprint: str
    tables: tuple[TableResult, ...]
    extent: Extent = Extent.FULL

    @property
    def rows(self) -> int:
        """Rows of the open side that were compared."""
        return sum(table.rows_open for table in self.tables)

    @property
    def differences(self) -> int:
        """Differing rows of all tables."""
        return sum(table.differences for table in self.tables)

    @property
    def verdict(self) -> Verdict:
        """The worst of the tables; empty tables beside compared ones do not spoil a proof."""
        found = {table.verdict for table in self.tables}
        for verdict in (Verdict.DIFFERENT, Verdict.INCOMPLETE, Verdict.EQUAL):
            if verdict in found:
                return verdict
        return Verdict.NOTHING_COMPARED


def never() -> bool:
    """The default of ``should_stop`` and ``should_pause``."""
    return False


Asked = Callable[[], bool]
#: Told after each query how many seconds it read; rests before it returns.
Pace = Callable[[float], None]


def restless(_read_s: float) -> None:
    """The default of ``pace``."""
