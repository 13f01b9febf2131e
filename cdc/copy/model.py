"""The words of the copy: parts, how far a table is covered, and what a caller may steer."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from contexts.model import TableName

#: One bound of a range: a key's columns as text, or a ctid.
Bound = tuple[str, ...]


class Strategy(enum.StrEnum):
    """How a table is cut into parts."""

    #: By physical position: all parts of a table under one snapshot, or the table starts again.
    CTID = "ctid"
    #: By ranges of the primary key: each part may be copied under a snapshot of its own.
    KEY = "key"


class Coverage(enum.StrEnum):
    """How much of a table is copied; it decides what the applier does with a change."""

    #: Nothing that will stay: changes are skipped, the snapshot to come contains them.
    NONE = "none"
    #: Some key ranges: a change may concern a row that is not here yet.
    PARTIAL = "partial"
    #: All: a change of a row that is not here is an error.
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Part:
    """A range of one table, from ``lower`` (inclusive) to ``upper`` (exclusive); None is open."""

    table: TableName
    number: int
    strategy: Strategy
    lower: Bound | None
    upper: Bound | None
    #: Bytes on the open side's disk, with TOAST, when the copy was planned.
    estimated_bytes: int
    #: The cycle that may copy the part; any other finds itself fenced.
    cycle: int = 0
    done: bool = False
    rows: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return f"{self.table} part {self.number}"


@dataclass(frozen=True, slots=True)
class Moved:
    """What was carried over; ``bytes`` in COPY's own format."""

    rows: int = 0
    bytes: int = 0

    def __add__(self, other: Moved) -> Moved:
        return Moved(self.rows + other.rows, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far the whole copy is, over all cycles."""

    parts_done: int
    parts_total: int
    #: Rows of the parts that are done.
    rows: int
    #: Disk bytes of the open side, so ``done`` and ``total`` are one measure.
    estimated_bytes_done: int
    estimated_bytes_total: int
    #: Mean of this cycle, in estimated bytes a second.
    bytes_per_s: float
    #: None where nothing was copied yet in this cycle.
    eta_s: float | None
    running: tuple[Part, ...]
    #: Why no new part is started, None where nothing holds the copy up.
    paused: str | None


@dataclass(frozen=True, slots=True)
class CycleResult:
    """What one cycle did; ``parts_done`` counts also parts of a table that must start again."""

    cycle: int
    #: Whether every table is fully copied, its primary key included.
    finished: bool
    parts_done: int
    rows: int
    bytes: int


class CopyControl(Protocol):
    """What the copy asks and tells its caller, several times a second, in the caller's thread."""

    def should_stop(self) -> bool:
        """Whether to stop now: parts under way are rolled back."""

    def is_paused(self) -> str | None:
        """Why no new part may start (a throttle's reason), or None. Parts under way go on."""

    def snapshot_imported(self) -> None:
        """All processes hold the snapshot by themselves: the session that exported it may end."""

    def progress(self, progress: CopyProgress) -> None:
        """Take note of the progress."""
