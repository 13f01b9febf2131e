"""Runs invariants on both sides at one moment of the live stream."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Sequence

from contexts.databases import Connection
from contexts.model import Side
from validations.barrier import Barrier
from validations.diff.sessions import Pair
from validations.invariants.model import Checked, Invariant, Limits, Outcome, Result
from validations.invariants.reading import outcome
from validations.snapshots import imported, require_as_they_were

_log = logging.getLogger(__name__)
#: A cursor is planned for its first rows unless told that all are wanted.
_SETTINGS = {"cursor_tuple_fraction": "1.0", "jit": "off"}


def check(barrier: Barrier, invariants: Sequence[Invariant], limits: Limits) -> Checked:
    """Ask each side inside its snapshot of the barrier, both at the same time, read-only.

    :raises SnapshotGone: the barrier is over.
    :raises Rewritten: a table was truncated or rewritten after the snapshots.
    :raises SideGone: a server went away.
    """
    at, over = dt.datetime.now(dt.UTC), time.monotonic() + limits.all_s
    if not invariants:
        return Checked(barrier.lsn, at, ())
    with (
        imported(barrier.open, "invariants", **_SETTINGS) as ours,
        imported(barrier.closed, "invariants", **_SETTINGS) as theirs,
        Pair(ours, theirs) as pair,
    ):
        results = [_one(pair, barrier.open_side, invariant, limits, over) for invariant in invariants]
    return Checked(barrier.lsn, at, tuple(results))


def _one(pair: Pair, open_side: Side, invariant: Invariant, limits: Limits, over: float) -> Result:
    def ask(session: Connection, side: Side) -> list[Outcome]:
        if side not in invariant.sides:
            return []
        answer = outcome(session, side, invariant, limits, over - time.monotonic())
        require_as_they_were(session)
        return [answer]

    ours, theirs = pair.both(lambda: ask(pair.open, open_side), lambda: ask(pair.closed, open_side.other))
    both = [*ours, *theirs] if open_side is Side.SHARED else [*theirs, *ours]
    result = Result(invariant, tuple(both))
    _log.info("invariant %s: %s", invariant.name, result.state)
    return result
