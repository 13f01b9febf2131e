"""The barrier as the diff sees it: a moment at which both sides hold the same committed transactions."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from contexts.databases import Database
from contexts.model import Side


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An exported snapshot: any session of ``database`` may import it while its exporter holds it."""

    database: Database
    #: What ``SET TRANSACTION SNAPSHOT`` takes.
    snapshot: str


@dataclass(frozen=True, slots=True)
class Barrier:
    """Two snapshots of one moment."""

    #: Both snapshots hold exactly the transactions of the open side that end at or before this position.
    lsn: int
    open_side: Side
    open: Snapshot
    closed: Snapshot


class Barriers(Protocol):
    """Makes barriers."""

    def __call__(self) -> AbstractContextManager[Barrier]:
        """A new barrier; its snapshots can be imported until the context manager is left.

        :raises CarveoutError: no barrier was reached in time.
        """
