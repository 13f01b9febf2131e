"""Barriers: a moment at which both sides hold exactly the same committed transactions.

A temporary logical slot on the open side exports a snapshot at an exact LSN L: it shows the transactions whose
commit record starts before L (PostgreSQL, ``replication/logical/snapbuild.c``). The stream applies exactly those,
and a snapshot of the closed side is exported then. No lock is taken on any table.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

from cdc.names import barrier_slot_name, gate_name
from cdc.source.slots import export_slot
from cdc.worker.signals import BarrierRequest, BarrierSnapshots, NoBarrier
from contexts.databases import Database
from contexts.errors import CarveoutError

#: A barrier that nobody imports keeps its snapshots no longer than this.
HAND_OVER_S = 60.0
_numbers = itertools.count(1)
_log = logging.getLogger(__name__)


class HeldBarrier:
    """The two sessions whose snapshots wait for their importer."""

    def __init__(self, request: BarrierRequest, sessions: ExitStack) -> None:
        self._request = request
        self._sessions = sessions
        self._until = time.monotonic() + HAND_OVER_S

    def close_if_released(self) -> bool:
        """End the sessions once the snapshots are imported or given up; True when they are gone."""
        if not (self._request.is_released() or time.monotonic() > self._until):
            return False
        self.close()
        return True

    def close(self) -> None:
        """End the sessions."""
        self._sessions.close()


def make_barrier(
    open_: Database,
    closed: Database,
    context: str,
    *,
    timeout_s: float,
    apply_until: Callable[[int], bool],
    request: BarrierRequest,
) -> HeldBarrier | None:
    """Bring the closed side to an exact position and hand both snapshots to ``request``.

    The caller has stopped applying; ``apply_until(L)`` must apply exactly the transactions before L, or say
    that it was stopped, or has answered itself.
    None where there is no barrier; the request has been told why.
    """
    name, vain = barrier_slot_name(context, next(_numbers)), False

    def is_vain() -> bool:
        nonlocal vain
        vain = vain or _waits_for_us(open_, context)
        return vain

    with ExitStack() as sessions:
        try:
            slot = sessions.enter_context(
                export_slot(open_, name, temporary=True, timeout_s=timeout_s, is_vain=is_vain)
            )
        except CarveoutError as error:  # running transactions, no free slot: the stream itself is well
            _log.warning("context %s: no barrier: %s", context, error)
            request.failed(error.message, NoBarrier.AGAIN if vain else NoBarrier.FAILED)
            return None
        try:
            if not apply_until(slot.consistent_point):
                request.failed("the worker was told to stop before the barrier")
                return None
            snapshot = _export(sessions, closed, context)
        except BaseException:
            request.failed("the stream stopped before the barrier")
            raise
        if request.reached(BarrierSnapshots(slot.consistent_point, slot.snapshot, snapshot)):
            return HeldBarrier(request, sessions.pop_all())
    return None


def _waits_for_us(open_: Database, context: str) -> bool:
    """Whether a slot waits for somebody who waits for the stream.

    That is who holds the gate closed, which is a transaction too, and applications in lockstep whose beginning is not
    applied yet: where it is on, the stream's barrier is not the one to take anyway.
    """
    with open_.connect(f"barrier/{context}") as conn:
        closed, has_route = conn.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = to_regclass(%s) AND mode = 'AccessExclusiveLock'"
            " AND granted), to_regclass('carveout.route') IS NOT NULL", (gate_name(context),)
        ).fetchall()[0]  # fmt: skip
        if closed or not has_route:
            return bool(closed)
        in_lockstep = "SELECT FROM carveout.route WHERE context = %s AND mode = 'lockstep'"
        return bool(conn.execute(in_lockstep, (context,)).fetchall())


def _export(sessions: ExitStack, closed: Database, context: str) -> str:
    reader = sessions.enter_context(closed.connect(f"barrier/{context}", autocommit=False))
    reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    row = reader.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    return str(row[0])
