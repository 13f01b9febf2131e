"""Tries of distributed transactions (:mod:`migrator.tcc`) that a switch finds pending.

Their barrier moves with the context, so a try is ended on whichever side is open then. Still a switch waits for those
that are pending when it begins, and does not begin over one that nobody ends: its coordinator is dead or lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from psycopg import sql

from contexts.catalog import Table
from contexts.model import Side
from migrator.run import Run

BARRIER = "tcc_branch"
#: How long a switch waits at most for tries that are within their limits.
PATIENCE_S = 60.0
_PAUSE_S = 0.1


def overdue(run: Run, from_side: Side) -> Iterator[str]:
    """The tries that are pending beyond their limits, by number and barrier."""
    for table in _barriers(run, from_side):
        query = sql.SQL(
            "SELECT count(*), min(deadline)::text FROM {} WHERE state = 'tried' AND deadline <= clock_timestamp()"
        ).format(table.identifier())
        ((number, since),) = run.executor.read(from_side, query)
        if number:
            yield f"{number} tries in {table.name} are pending beyond their limit since {since} (recover them)"


def drain(run: Run, from_side: Side) -> None:
    """Wait until the tries that are pending now have ended; one that goes beyond its limit meanwhile moves as it is."""
    deadline = time.monotonic() + PATIENCE_S
    for table in _barriers(run, from_side):
        query = sql.SQL(
            "SELECT count(*) FROM {} WHERE state = 'tried' AND deadline > clock_timestamp() AND changed_at <= %s"
        ).format(table.identifier())
        ((began,),) = run.executor.read(from_side, sql.SQL("SELECT clock_timestamp()"))
        while run.executor.read(from_side, query, (began,)) != [(0,)] and time.monotonic() < deadline:
            _pause()


def _pause() -> None:
    time.sleep(_PAUSE_S)  # the end of a try tells nobody


def _barriers(run: Run, side: Side) -> list[Table]:
    return [table for table in run.tables(side) if table.name.name == BARRIER]
