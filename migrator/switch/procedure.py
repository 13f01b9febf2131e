"""The switch itself, its undo, and its way forward; killed anywhere, ``resume`` ends it wholly or not at all.

Before the journal row ``committed`` everything here is taken back, after it everything is finished. Both ways are
idempotent, so they can be killed and run again themselves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from contexts.errors import CarveoutError, NeedsHuman
from contexts.killpoints import kill_point
from contexts.model import Side
from migrator.control import switches
from migrator.control.switches import Outcome, Switch
from migrator.interrupts import undisturbed
from migrator.run import Run
from migrator.sides import gate, route
from migrator.switch import fence, markers, sequences, wayback

#: Each attempt to close the gate makes new transactions wait for at most ``lock_timeout_ms``.
GATE_PATIENCE_S = 60.0
_log = logging.getLogger(__name__)


class Interrupted(CarveoutError):
    """Somebody ended the driver, and the switch went back."""

    transient = True


class OpenNotFinished(NeedsHuman):
    """The new side is open, for good; what is left to do could not be done."""

    def __init__(self, switch: Switch, why: str) -> None:
        super().__init__(
            f"context {switch.context!r}: the {switch.to_side} side is open and takes writes, but the switch is not"
            f" finished: {why}",
            unchanged=f"no write was lost; until it is finished nothing flows back to the {switch.from_side} side",
            next_step=f"if the worker hangs, end it and start another; then carveout resume {switch.context}",
        )


class Stopwatch:
    """The time without writes and its breakdown, in milliseconds."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self.total_ms = 0.0
        #: What the last check saw.
        self.facts: dict[str, Any] = {}
        self.began = self._last = time.monotonic()

    def start(self, began: float) -> None:
        """Count from the moment at which the first transaction had to wait (monotonic clock)."""
        self.began = self._last = began

    def lap(self, part: str) -> None:
        """Note what the time since the last lap was spent on."""
        now = time.monotonic()
        self.parts[part] = round((now - self._last) * 1000, 1)
        self._last = now

    def stop(self, part: str) -> None:
        """Note the last part and the total."""
        self.lap(part)
        self.total_ms = round((self._last - self.began) * 1000, 1)


@dataclass(frozen=True)
class SwitchReport:
    """What a finished switch did."""

    context: str
    from_side: Side
    to_side: Side
    write_block_ms: float
    breakdown_ms: dict[str, float]
    #: ``changed_keys`` that the stream remembered, ``rechecked_keys`` that were compared at the fence, and
    #: ``not_rechecked``.
    facts: dict[str, Any]


def execute(run: Run, verify: Callable[[], dict[str, Any]]) -> SwitchReport:
    """Exchange the sides. The conditions have been checked by the caller.

    :param verify: the last check while no side is open; raises to go back.
    :raises CarveoutError: the switch went back; the side that was open is open.
    :raises OpenNotFinished: the other side is open.
    :raises NeedsHuman: the outcome is not known.
    """
    switch = _begin(run)
    kill_point("switch.started")
    watch = Stopwatch()
    try:
        fence.complete_locks(run, switch)
        wayback.make(run, switch)
        _journal(run, switch, "way_back_prepared")
        kill_point("switch.way_back_prepared")
        pairs = sequences.pair(run, switch.from_side, switch.to_side)
        with _gate(run, switch) as began:
            watch.start(began)
            try:
                _exchange(run, switch, pairs, verify, watch)
            except BaseException as error:
                # While gated transactions still wait: they must not meet a closed side.
                if _settle(run, switch, error) is Outcome.COMMITTED:
                    watch.stop("open")
                raise
    except (CarveoutError, psycopg.Error, KeyboardInterrupt) as error:
        if _settle(run, switch, error) is not Outcome.COMMITTED:
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(
                    f"context {run.name!r}: interrupted; the switch went back",
                    unchanged=f"the {switch.from_side} side is open as before",
                    next_step=f"carveout status {run.name}",
                ) from error
            raise
    _finish(run, switch, {"write_block_ms": watch.total_ms, **watch.parts, **watch.facts})
    return SwitchReport(run.name, switch.from_side, switch.to_side, watch.total_ms, watch.parts, watch.facts)


def resume(run: Run) -> Outcome | None:
    """End a switch that was left half done: undo it before the point of no return, finish it after.

    :returns: what has become of it, None where there was none.
    """
    switch = switches.take_over(run.control, run.name)
    if switch is None:
        return None
    if switch.outcome is Outcome.COMMITTED:
        _open(run, switch)
        _finish(run, switch, {})
        return Outcome.FINISHED
    undo(run, switch, "resumed after the driver had died")
    return Outcome.UNDONE


def undo(run: Run, switch: Switch, reason: str) -> None:
    """Open the side that was open and remove what the switch had made.

    The other side cannot be open: it is opened only after the point of no return. So it is not asked first, and
    the application goes on even while that server is down.
    """
    fence.open_side(run, switch, switch.from_side)
    fence.close_side(run, switch, switch.to_side)
    wayback.drop(run, switch)
    run.executor.act(
        Side.SHARED, f"journal: switch of {run.name} undone", lambda: switches.undo(run.control, switch, reason)
    )
    _log.warning("context %s: the switch went back: %s", run.name, reason)


def _begin(run: Run) -> Switch:
    migration = run.migration()
    if run.executor.dry:
        import uuid

        driver = switches.newest_driver(run.control, run.name) + 1
        from_side, to_side = migration.open_side, migration.closed_side
        return Switch(uuid.uuid4(), run.name, from_side, to_side, migration.epoch + 1, Outcome.RUNNING, driver)
    return switches.begin(run.control, migration)


@contextmanager
def _gate(run: Run, switch: Switch) -> Iterator[float]:
    options = run.context.options
    if run.executor.dry:
        run.executor.act(switch.from_side, f"close the gate of {run.name} until the switch is decided", lambda: None)
    try:
        with gate.closed_gate(
            run.databases[switch.from_side],
            run.name,
            lock_timeout_ms=options.lock_timeout_ms,
            deadline=time.monotonic() + GATE_PATIENCE_S,
            dry=run.executor.dry,
        ) as began:
            yield began
    except psycopg.errors.LockNotAvailable as error:
        raise fence.FenceBlocked(
            f"context {run.name!r}: gated transactions on the {switch.from_side} side did not end in time",
            unchanged=f"the {switch.from_side} side is open as before",
            next_step="end them, or try again when they are done",
        ) from error


def _exchange(
    run: Run, switch: Switch, pairs: sequences.Pairs, verify: Callable[[], dict[str, Any]], watch: Stopwatch
) -> None:
    """Everything that happens while no side takes writes."""
    deadline = watch.began + run.context.options.switch_deadline_ms / 1000
    watch.lap("gate")
    kill_point("switch.gate_closed")
    marker = markers.new(run.name, "fence")
    fence.fence(run, switch, marker, deadline)
    watch.lap("fence")
    kill_point("switch.fenced")
    _drain(run, switch, marker, deadline)
    watch.lap("drain")
    kill_point("switch.drained")
    watch.facts = verify()
    watch.lap("verify")
    kill_point("switch.verified")
    sequences.carry(run, pairs, switch.from_side, switch.to_side)
    watch.lap("sequences")
    kill_point("switch.sequences_set")
    wayback.mark_opening(run, switch)
    kill_point("switch.opening_marked")
    run.executor.act(
        Side.SHARED, f"journal: switch of {run.name} committed", lambda: switches.commit(run.control, switch)
    )
    watch.lap("journal")
    kill_point("switch.committed")
    _open(run, switch)
    watch.stop("open")


def _drain(run: Run, switch: Switch, marker: markers.Marker, deadline: float) -> None:
    closed = run.databases[switch.to_side]
    run.executor.act(
        switch.to_side,
        f"wait until the fence marker is applied (at most {run.context.options.switch_deadline_ms} ms in all)",
        lambda: markers.wait_applied(closed, marker, deadline),
    )


def _open(run: Run, switch: Switch) -> None:
    """After the point of no return: the old side tells the way, the new one opens, and says so only then.

    An application that was quiet since an earlier switch may ask the new side first, whose gate is open. As long as
    writes are refused there, its route sends that application to the gate that is closed.
    """
    fence.close_side(run, switch, switch.from_side)
    route.write(run.executor, switch.from_side, run.name, switch.to_side, switch.epoch)
    kill_point("switch.routed")
    fence.open_side(run, switch, switch.to_side)
    route.write(run.executor, switch.to_side, run.name, switch.to_side, switch.epoch)
    kill_point("switch.opened")


def _finish(run: Run, switch: Switch, breakdown: dict[str, Any]) -> None:
    """What is left when the new side is open.

    :raises OpenNotFinished: it could not be done; ``resume`` does it later.
    """
    try:
        _finished(run, switch, breakdown)
    except switches.SwitchEnded:
        raise
    except (psycopg.Error, CarveoutError, KeyboardInterrupt) as error:
        raise OpenNotFinished(switch, str(error) or "interrupted") from error


def _finished(run: Run, switch: Switch, breakdown: dict[str, Any]) -> None:
    wayback.drop_old(run, switch)
    kill_point("switch.finished")
    run.executor.act(
        Side.SHARED,
        f"journal: switch of {run.name} finished",
        lambda: switches.finish(run.control, switch, breakdown),
    )


def _settle(run: Run, switch: Switch, error: BaseException) -> Outcome | None:
    """Something failed: the journal, not our memory, says which way to go.

    :returns: COMMITTED where the way led forward, None where the switch is undone.
    :raises NeedsHuman: the journal cannot be read, or the way it names cannot be gone.
    """
    if run.executor.dry:
        return None
    try:
        with undisturbed():
            return _settled(run, switch, error)
    except switches.SwitchEnded:  # what becomes of it is the newer driver's to say
        return None
    except (psycopg.Error, CarveoutError) as second:
        raise NeedsHuman(
            f"context {run.name!r}: the switch failed ({error}) and could not be settled ({second})",
            unchanged="no side was opened that the journal does not name; no row was lost",
            next_step=f"carveout resume {run.name}",
        ) from error


def _settled(run: Run, switch: Switch, error: BaseException) -> Outcome | None:
    now = switches.current(run.control, run.name)
    if now is None or now.id != switch.id:  # another driver has ended it
        return None
    if now.outcome is Outcome.COMMITTED:
        _open(run, switch)
        return Outcome.COMMITTED
    undo(run, switch, str(error) or type(error).__name__)
    return None


def _journal(run: Run, switch: Switch, step: str) -> None:
    run.executor.act(
        Side.SHARED,
        f"journal: {step}",
        lambda: switches.journal(run.control, switch, step, {}),
    )
