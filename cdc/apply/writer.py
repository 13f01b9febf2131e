"""Writes collected changes table by table: the fast path where it can, the exact path where it must."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import psycopg
from psycopg import errors

from cdc.apply import failures, statements
from cdc.apply.compact import Entry, Net, compact
from cdc.apply.coverage import Extent
from cdc.apply.exactpath import ExactPath
from cdc.apply.fastpath import FastPath, Unexpected
from cdc.apply.plan import Plan
from cdc.apply.recent import RecentKeys
from cdc.source.packed import change
from contexts.databases import Connection

_log = logging.getLogger(__name__)
# The planner knows nothing of a staging table. Left to itself it reads the whole target for every batch, to hash it;
# each row is found by the unique index instead, so a batch costs by its own size.
_BEGIN_SEGMENT = "SAVEPOINT carveout_segment; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
#: Up to so many changes one statement each is cheaper than a staging table.
FEW = 4


class Writer:
    """One open target transaction; a failed method leaves it to be rolled back."""

    def __init__(self, conn: Connection, context: str) -> None:
        self._conn = conn
        self._cursor = psycopg.RawCursor(conn)
        self._context = context
        self._fast = FastPath(conn)
        self._exact = ExactPath(conn, context)
        #: How many segments had to be written again by the exact path, for metrics and tests.
        self.fallbacks = 0
        self.recent = RecentKeys()

    def write(self, plan: Plan, log: Sequence[Entry]) -> None:
        """Write the changes of one table, in source order as far as it matters.

        :raises StreamStopped: a change does not fit the rows that are there; names table and key.
        :raises CarveoutError: the server failed.
        """
        if plan.extent is Extent.NONE:
            return
        self.recent.note(plan, log)
        start = 0
        while start < len(log):
            start = self._write_segment(plan, log, start)

    def _write_segment(self, plan: Plan, log: Sequence[Entry], start: int) -> int:
        if len(log) - start <= FEW or not self._can_be_fast(plan):
            self._write_exactly(plan, log[start:])
            return len(log)
        net, stop = compact(plan, log, start)
        if stop - start <= FEW:
            self._write_exactly(plan, log[start:stop])
        else:
            self._write_fast(plan, net, log[start:stop])
        # What could not be merged meets the rows as they are now.
        self._write_exactly(plan, log[stop : stop + 1])
        return stop + 1

    def _can_be_fast(self, plan: Plan) -> bool:
        """Row counts prove that every key was met only where a key cannot be there twice, and its index finds it."""
        return plan.key_is_unique or not plan.is_keyed

    def _write_fast(self, plan: Plan, net: Net, log: Sequence[Entry]) -> None:
        mark = self._fast.staging.mark()
        self._cursor.execute(_BEGIN_SEGMENT)
        try:
            self._fast.write(plan, net)
        except (Unexpected, ValueError, psycopg.IntegrityError, psycopg.DataError) as reason:
            self.fallbacks += 1
            _log.info("%s: %d changes row by row: %s", plan.relation.table, len(log), type(reason).__name__)
            self._cursor.execute("ROLLBACK TO SAVEPOINT carveout_segment")
            self._fast.staging.roll_back_to(mark)
            self._write_exactly(plan, log)
        except psycopg.Error as error:
            raise failures.named(error, self._context, f"changes of {plan.relation.table}") from None
        self._cursor.execute("RELEASE SAVEPOINT carveout_segment")

    def _write_exactly(self, plan: Plan, log: Sequence[Entry]) -> None:
        for entry in log:
            self._exact.write(plan, change(entry, plan.relation) if isinstance(entry, bytes) else entry)

    def truncate(self, plans: Sequence[Plan]) -> None:
        """Empty tables together; where a foreign key of another table is in the way, by deleting their rows."""
        plans = [plan for plan in plans if plan.extent is not Extent.NONE]
        if not plans:
            return
        self._cursor.execute("SAVEPOINT carveout_truncate")
        try:
            self._cursor.execute(statements.truncate(plans))
        except errors.FeatureNotSupported:
            self._cursor.execute("ROLLBACK TO SAVEPOINT carveout_truncate")
            for plan in plans:
                self._cursor.execute(statements.empty(plan))
        self._cursor.execute("RELEASE SAVEPOINT carveout_truncate")

    def committed(self) -> None:
        """The target transaction was committed."""
        self._fast.staging.committed()
