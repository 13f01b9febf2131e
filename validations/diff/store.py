"""What the diff needs of a store: finished segments survive a kill."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from contexts.model import Side, TableName
from validations.diff.model import Difference, DiffResult, Extent, Segment
from validations.diff.plan import TablePlan


@dataclass(frozen=True, slots=True)
class Seen:
    """What a segment's comparison saw."""

    lsn: int
    #: When the barrier was asked for.
    at: dt.datetime
    rows_open: int
    rows_closed: int


class Writer(Protocol):
    """Stores segments; each thread has its own."""

    def write(self, segment: Segment, seen: Seen, differences: Iterable[Difference]) -> int:
        """Store a segment's result and all its differences in one transaction.

        :returns: how many rows differ.
        """


class Store(Protocol):
    """Keeps verifications."""

    def lock(self) -> AbstractContextManager[None]:
        """Keep a second verification of the context out.

        :raises RefusedError: one is running.
        """

    def unfinished(self, open_side: Side, fingerprint: str, tables: Sequence[TableName]) -> int | None:
        """The verification of exactly these tables that was not finished."""

    def begin(self, open_side: Side, fingerprint: str, plans: Sequence[TablePlan], extent: Extent = Extent.FULL) -> int:
        """Store a new verification with all its segments; older unfinished ones of its extent end as incomplete."""

    def pending(self, verification: int) -> list[Segment]:
        """The segments that are still to be compared."""

    def writer(self, verification: int) -> AbstractContextManager[Writer]:
        """A writer with a session of its own."""

    def finish(self, verification: int) -> None:
        """Store the verdict."""

    def result(self, verification: int) -> DiffResult:
        """What is known so far."""
