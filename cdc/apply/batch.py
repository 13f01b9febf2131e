"""The open batch: how much is applied but not committed, and up to where."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, field

from cdc.apply.markers import Marker
from cdc.events import Transaction
from contexts.model import Options

MB = 1 << 20
#: A stream this far behind has lost its latency already: its batches may grow older, so that it catches up sooner.
_BEHIND_S = 5.0
_BEHIND_AGE = 10


@dataclass(frozen=True, slots=True)
class Pending:
    """What is applied but not committed; false where that is nothing."""

    transactions: int
    rows: int
    #: Payload bytes, as the source counts them.
    bytes: int
    age_s: float

    def __bool__(self) -> bool:
        return self.transactions > 0


@dataclass(slots=True)
class Batch:
    """Whole source transactions that are one target transaction."""

    #: End of the last transaction; where the batch is empty, the stored position.
    end_lsn: int
    transactions: int = 0
    rows: int = 0
    bytes: int = 0
    _commit_time_us: int = 0
    markers: list[Marker] = field(default_factory=list)
    _started_s: float = 0.0

    def add(self, transaction: Transaction) -> None:
        """Count a transaction whose changes were collected."""
        if not self.transactions:
            self._started_s = time.monotonic()
        self.transactions += 1
        self.rows += transaction.size
        self.bytes += transaction.bytes
        self.end_lsn = transaction.end_lsn
        self._commit_time_us = transaction.commit_time_us

    @property
    def source_time(self) -> dt.datetime | None:
        """When its last transaction was committed, by the source's clock; None where it is empty."""
        if not self.transactions:
            return None
        # Integer arithmetic: a float has no room for the microseconds of this century.
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=self._commit_time_us)

    def pending(self) -> Pending:
        """The bounds' view of the batch."""
        age = time.monotonic() - self._started_s if self.transactions else 0.0
        return Pending(self.transactions, self.rows, self.bytes, age)

    def is_due(self, options: Options) -> bool:
        """Whether a bound is reached; a marker is waited for, so it is due at once."""
        return self.transactions > 0 and (
            self.rows >= options.batch_rows
            or self.bytes >= options.batch_mb * MB
            or bool(self.markers)
            or self._is_old(options.batch_age_ms / 1000)
        )

    def _is_old(self, limit_s: float) -> bool:
        age_s = time.monotonic() - self._started_s
        if age_s < limit_s:
            return False
        behind_s = time.time() - self._commit_time_us / 1e6
        return behind_s < _BEHIND_S or age_s >= limit_s * _BEHIND_AGE
