"""The open batch: how much is applied but not committed, and up to where."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, field

from cdc.apply.markers import Marker
from cdc.events import Transaction
from contexts.model import Options

MB = 1 << 20


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
    source_time: dt.datetime | None = None
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
        self.source_time = _time(transaction.commit_time_us)

    def pending(self) -> Pending:
        """The bounds' view of the batch."""
        age = time.monotonic() - self._started_s if self.transactions else 0.0
        return Pending(self.transactions, self.rows, self.bytes, age)

    def is_due(self, options: Options) -> bool:
        """Whether a bound is reached; a marker is waited for, so it is due at once."""
        pending = self.pending()
        return bool(pending) and (
            bool(self.markers)
            or pending.rows >= options.batch_rows
            or pending.bytes >= options.batch_mb * MB
            or pending.age_s * 1000 >= options.batch_age_ms
        )


def _time(us: int) -> dt.datetime:
    # Integer arithmetic: a float has no room for the microseconds of this century.
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=us)
