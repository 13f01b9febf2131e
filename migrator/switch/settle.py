"""The two ways out of a half-done switch; the journal alone says which one. Both can be killed and run again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg

from contexts.databases import Connection
from contexts.errors import CarveoutError, NeedsHuman
from contexts.killpoints import kill_point
from contexts.model import Side
from migrator.control import switches
from migrator.control.switches import Outcome, Switch
from migrator.interrupts import undisturbed
from migrator.run import Run
from migrator.sides import route
from migrator.switch import fence, wayback
from migrator.switch.moves import Move, Stopwatch
from migrator.traffic import traffic as traffics
from migrator.traffic.driver import TrafficBroken
from migrator.traffic.traffic import Traffic

#: The journal's step whose detail says what may be held.
TRAFFIC_NOTED = "traffic_noted"
_log = logging.getLogger(__name__)


class OpenNotFinished(NeedsHuman):
    """The new side is open, for good; what is left to do could not be done."""

    def __init__(self, moves: Sequence[Move], why: str) -> None:
        switch = moves[0].switch
        super().__init__(
            f"context {_names(moves)!r}: the {switch.to_side} side is open and takes writes, but the switch is not"
            f" finished: {why}",
            unchanged=f"no write was lost; until it is finished nothing flows back to the {switch.from_side} side",
            next_step=f"if the worker hangs, end it and start another; then carveout resume {switch.context}",
        )


def resume(runs: Sequence[Run]) -> Outcome | None:
    """End a switch that was left half done: undo it before the point of no return, finish it after.

    :param runs: all contexts of the switch (:func:`switches.members`).
    :returns: what has become of it, None where there was none.
    :raises NeedsHuman: something that leads traffic must be repaired first.
    """
    moves = []
    for run in sorted(runs, key=lambda one: one.name):
        if (switch := switches.take_over(run.control, run.name)) is not None:
            moves.append(Move(run, switch, _no_check))
    if not moves:
        return None
    traffic = _noted(moves)
    if moves[0].switch.outcome is Outcome.COMMITTED:
        forward(moves, traffic)
        finish(moves, {})
        return Outcome.FINISHED
    undo(moves, traffic, "resumed after the driver had died", {})
    return Outcome.UNDONE


def forward(moves: Sequence[Move], traffic: Traffic) -> None:
    """Open the new side and let the traffic go there."""
    open_all(moves)
    to_side = moves[0].switch.to_side
    try:
        traffic.lead(to_side)
    except TrafficBroken as error:
        raise _must_be_repaired(moves, to_side, error) from error


def open_all(moves: Sequence[Move]) -> None:
    """After the point of no return, context by context."""
    for move in moves:
        open_to(move.run, move.switch)


def open_to(run: Run, switch: Switch) -> None:
    """The old side tells the way, the new one opens, and says so only then.

    An application that was quiet since an earlier switch may ask the new side first, whose gate is open. As long as
    writes are refused there, its route sends that application to the gate that is closed.
    """
    fence.close_side(run, switch, switch.from_side)
    route.write(run.executor, switch.from_side, run.name, switch.to_side, switch.epoch)
    kill_point("switch.routed")
    fence.open_side(run, switch, switch.to_side)
    route.write(run.executor, switch.to_side, run.name, switch.to_side, switch.epoch)
    kill_point("switch.opened")


def finish(moves: Sequence[Move], measured: Mapping[str, Any]) -> None:
    """What is left when the new side is open.

    :raises OpenNotFinished: it could not be done; ``resume`` does it later.
    """
    try:
        finished(moves, measured)
    except switches.SwitchEnded:
        raise
    except (psycopg.Error, CarveoutError, KeyboardInterrupt) as error:
        raise OpenNotFinished(moves, str(error) or "interrupted") from error


def finished(moves: Sequence[Move], measured: Mapping[str, Any]) -> None:
    """Drop the streams that have ended, and close the switch of all contexts at once."""
    for move in moves:
        wayback.drop_old(move.run, move.switch)
    kill_point("switch.finished")
    _end(moves, "finished", lambda control, switch: switches.finish(control, switch, dict(measured)))


def undo(moves: Sequence[Move], traffic: Traffic, reason: str, measured: Mapping[str, Any]) -> None:
    """Open the side that was open, lead the traffic there, and remove what the switch had made.

    The other side cannot be open: it is opened only after the point of no return. So it is not asked first, and
    the application goes on even while that server is down.

    :raises NeedsHuman: all is done but for something that leads traffic; ``resume`` tries that again.
    """
    from_side = moves[0].switch.from_side
    for move in moves:
        fence.open_side(move.run, move.switch, from_side)
    broken = None
    try:
        traffic.lead(from_side)
    except TrafficBroken as error:
        broken = error
    for move in moves:
        fence.close_side(move.run, move.switch, move.switch.to_side)
        wayback.drop(move.run, move.switch)
    if broken is not None:
        raise _must_be_repaired(moves, from_side, broken)
    _end(moves, "undone", lambda control, switch: switches.undo(control, switch, reason, dict(measured)))
    _log.warning("context %s: the switch went back: %s", _names(moves), reason)


def settle(moves: Sequence[Move], traffic: Traffic, watch: Stopwatch, error: BaseException) -> Outcome | None:
    """Something failed: the journal, not our memory, says which way to go.

    :returns: COMMITTED where the way led forward, None where the switch is undone.
    :raises NeedsHuman: the journal cannot be read, or the way it names cannot be gone.
    """
    if moves[0].run.executor.dry or isinstance(error, NeedsHuman):
        return None
    try:
        with undisturbed():
            for move in moves:
                move.run.executor.settle()
            return _settled(moves, traffic, watch, error)
    except switches.SwitchEnded:  # what becomes of it is the newer driver's to say
        _let_go(moves, traffic)
        return None
    except NeedsHuman:
        raise
    except (psycopg.Error, CarveoutError) as second:
        raise NeedsHuman(
            f"context {_names(moves)!r}: the switch failed ({error}) and could not be settled ({second})",
            unchanged="no side was opened that the journal does not name; no row was lost",
            next_step=f"carveout resume {moves[0].run.name}",
        ) from error


def _settled(moves: Sequence[Move], traffic: Traffic, watch: Stopwatch, error: BaseException) -> Outcome | None:
    left = []
    for move in moves:
        now = switches.decided(move.run.control, move.run.name)
        if now is not None and now.id == move.switch.id:  # else another driver has ended it
            left.append((move, now.outcome))
    if not left:
        _let_go(moves, traffic)
        return None
    ours = [move for move, _ in left]
    if left[0][1] is Outcome.COMMITTED:
        forward(ours, traffic)
        return Outcome.COMMITTED
    undo(ours, traffic, str(error) or type(error).__name__, {"write_block_ms": watch.blocked_ms(), **watch.parts})
    return None


def _let_go(moves: Sequence[Move], traffic: Traffic) -> None:
    """What this driver held after a newer one had let everything go must not wait for ever."""
    try:
        traffic.release(moves[0].run.migration().open_side)
    except TrafficBroken as error:
        _log.warning("context %s: %s", _names(moves), error)


def _end(moves: Sequence[Move], outcome: str, end: Callable[[Connection, Switch], None]) -> None:
    """End the switch of all contexts in one transaction."""
    control = moves[0].run.control

    def together() -> None:
        with control.transaction():
            for move in moves:
                end(control, move.switch)

    moves[0].run.executor.act(Side.SHARED, f"journal: switch of {_names(moves)} {outcome}", together)


def _names(moves: Sequence[Move]) -> str:
    return ", ".join(move.run.name for move in moves)


def _noted(moves: Sequence[Move]) -> Traffic:
    """What the driver that died may have held."""
    first = moves[0]
    note = switches.noted(first.run.control, first.switch, TRAFFIC_NOTED)
    runs = [move.run for move in moves]
    return traffics.noted(note, runs, first.switch.from_side) if note else traffics.nothing(first.switch.from_side)


def _must_be_repaired(moves: Sequence[Move], side: Side, error: CarveoutError) -> NeedsHuman:
    return NeedsHuman(
        f"context {_names(moves)!r}: the {side} side is open, but what leads traffic there must be"
        f" repaired: {error.message}",
        unchanged="no write was lost; everything else leads to the open side",
        next_step=f"repair it (or take it out of the declaration), then carveout resume {moves[0].run.name}",
    )


def _no_check(_budget_s: float) -> dict[str, Any]:
    return {}
