"""The loop that follows the open side: poll, apply, commit, acknowledge."""

from __future__ import annotations

import logging
import time

from cdc.apply import Applier
from cdc.apply.markers import FENCE
from cdc.events import Event, Idle, Transaction
from cdc.source.base import Source
from cdc.worker.barrier import HeldBarrier, make_barrier
from cdc.worker.signals import BarrierRequest, NoBarrier, Signals
from contexts.databases import Database
from contexts.errors import CarveoutError
from contexts.model import Options

POLL_S = 0.2
HOLD_POLL_S = 0.05
IDLE_S = 1.0
_log = logging.getLogger(__name__)


class Stream:
    """One source applied to one closed side, until told to stop.

    ``source`` and ``applier`` belong to the caller, who closes them.
    """

    def __init__(
        self,
        source: Source,
        applier: Applier,
        *,
        context: str,
        open_: Database,
        closed: Database,
        options: Options,
        signals: Signals,
    ) -> None:
        self._source = source
        self._applier = applier
        self._context = context
        self._open = open_
        self._closed = closed
        self._options = options
        self._signals = signals
        #: Start of the commit that could not be applied; None where nothing before it was rolled back with it.
        self.unapplied_until: int | None = None
        self._next: Event | None = None  # read ahead past a barrier, to be applied after it
        self._held: list[HeldBarrier] = []
        self._asked_idle = 0.0
        self._ordinal: int | None = None  # the source's sub-positions of what is applied
        self._parts: tuple[int, ...] = ()
        self._rows = 0
        self._transactions = 0
        self._committing = 0, 0.0  # rows of the last commit, and when it was begun

    def run(self) -> None:
        """Follow the open side until ``signals.stop`` is set.

        What is durable when this returns is in the position row; an open batch is committed first.

        :raises CarveoutError: the stream cannot go on; the open batch is rolled back, nothing is lost.
        """
        self._source.acknowledge(self._applier.position.end_lsn)
        try:
            while not self._signals.stop.is_set():
                self._release_barriers()
                if self._is_waiting():
                    self._signals.stop.wait(POLL_S)
                elif not self._signals.barriers.empty():
                    self._barrier(self._signals.barriers.get())
                else:
                    self._step()
            self._commit()
        finally:
            for held in self._held:
                held.close()

    def catch_up(self, lsn: int) -> bool:
        """Apply exactly the transactions whose commit record starts before ``lsn``, and commit them.

        :returns: False where it was told to stop before; what was applied by then is committed.
        """
        while not self._signals.stop.is_set():
            event = self._take(POLL_S)
            if _is_beyond(event, lsn):
                self._next = event
                self._commit()
                return True
            self._handle(event)
            if self._applier.is_due():
                self._commit_ahead()
            if event is None:
                self._source.request_idle()
        self._commit()
        return False

    def _is_waiting(self) -> bool:
        if self._signals.pause_reason is None and not self._signals.halted.is_set():
            return False
        self._commit()
        return True

    def _step(self) -> None:
        # An open batch waits for company until its age makes it due: a commit costs more than a row.
        self._handle(self._take(self._options.batch_age_ms / 2000 if self._applier.pending else POLL_S))
        if self._applier.is_due():
            self._commit_ahead()

    def _handle(self, event: Event | None) -> None:
        match event:
            case None:
                self._ask_idle()
            case Idle(lsn=lsn):
                if not self._applier.pending:
                    self._settle()
                    if (durable := self._applier.idle(lsn, event.ordinal or None, event.parts)) is not None:
                        self._source.acknowledge(durable)
                    self._report(behind_s=0.0)
            case Transaction():
                self._apply(event)
                self._ordinal, self._parts = event.ordinal, event.parts
                self._rows += event.size
                self._transactions += 1

    def _apply(self, transaction: Transaction) -> None:
        others_wait = bool(self._applier.pending) or self._applier.is_writing
        try:
            self._applier.apply(transaction)
        except CarveoutError:
            if others_wait:
                self.unapplied_until = transaction.commit_lsn
            raise

    def _ask_idle(self) -> None:
        """Learn how far a quiet stream has come: the lag is the time since that was last known."""
        if (now := time.monotonic()) - self._asked_idle > IDLE_S:
            self._asked_idle = now
            self._source.request_idle()

    def _take(self, timeout_s: float) -> Event | None:
        if self._next is not None:
            event, self._next = self._next, None
            return event
        if self._applier.is_writing:
            if (waiting := self._poll(0)) is not None:
                return waiting
            self._settle()  # nothing else to do
        return self._poll(timeout_s)

    def _poll(self, timeout_s: float) -> Event | None:
        try:
            return self._source.poll(timeout_s)
        except CarveoutError:
            self._commit()  # what came before is whole, and may not fit any more once the cause is mended
            raise

    def _commit(self) -> None:
        """Make durable what is applied."""
        self._commit_ahead()
        self._settle()

    def _commit_ahead(self) -> None:
        """Begin to make it durable; where there is more to apply, that goes on meanwhile."""
        self._settle()
        if not self._applier.pending:
            return
        self._committing = self._applier.pending.rows, time.monotonic()
        self._applier.commit_ahead(self._ordinal, self._parts)
        if not self._applier.is_writing:
            self._committed()

    def _settle(self) -> None:
        if self._applier.is_writing:
            self._applier.settle()
            self._committed()

    def _committed(self) -> None:
        position, (rows, started) = self._applier.position, self._committing
        self._source.acknowledge(position.end_lsn)
        if any(marker.kind == FENCE for marker in self._applier.markers):
            _log.info("context %s: the fence marker was applied; waiting for the switch", self._context)
            self._signals.halted.set()
        if position.source_time:
            self._report(behind_s=max(0.0, time.time() - position.source_time.timestamp()))
        self._keep_rate(rows, started)

    def _keep_rate(self, rows: int, started: float) -> None:
        """Wait until ``rows`` since ``started`` are no more than the rate allows, as it stands at each moment."""
        while (rate := self._signals.rows_per_s) and not self._signals.stop.is_set():
            left = rows / rate - (time.monotonic() - started)
            if left <= 0:
                return
            self._signals.stop.wait(min(left, POLL_S))

    def _report(self, *, behind_s: float) -> None:
        """Publish where the stream stands; ``behind_s`` compares the source's clock with ours."""
        position = self._applier.position
        self._signals.report = {
            "end_lsn": position.end_lsn,
            "source_time": position.source_time.isoformat() if position.source_time else None,
            "rows": self._rows,
            "transactions": self._transactions,
            "behind_s": behind_s,
            "reported_at": time.time(),
        }

    def _barrier(self, request: BarrierRequest) -> None:
        self._commit()
        if self._applier.in_lockstep:
            self._leave_to_requester(request)
            return

        def apply_until(lsn: int) -> bool:
            reached = self.catch_up(lsn)
            if reached and self._applier.in_lockstep:
                self._leave_to_requester(request)
                return False
            if reached and request.wants_recent_keys:
                self._applier.store_recent_keys()
            return reached

        held = make_barrier(
            self._open,
            self._closed,
            self._context,
            timeout_s=self._options.barrier_timeout_s,
            apply_until=apply_until,
            request=request,
        )
        if held:
            self._held.append(held)
            self._hold(held, request.hold_s)

    def _leave_to_requester(self, request: BarrierRequest) -> None:
        """Here the closed side may be ahead of the stream, by what applications have written to both sides."""
        if request.wants_recent_keys:
            self._applier.store_recent_keys()
        request.failed("applications write both sides", NoBarrier.IN_LOCKSTEP)

    def _hold(self, held: HeldBarrier, limit_s: float) -> None:
        """Apply nothing while the closed side is put right at exactly this position."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until and not held.close_if_released():
            if self._signals.stop.wait(HOLD_POLL_S):
                return

    def _release_barriers(self) -> None:
        if self._held:
            self._held = [held for held in self._held if not held.close_if_released()]


def _is_beyond(event: Event | None, lsn: int) -> bool:
    """Whether every transaction whose commit record starts before ``lsn`` came before this event."""
    match event:
        case Transaction():
            return event.commit_lsn >= lsn
        case Idle():
            return event.lsn >= lsn
        case None:
            return False
