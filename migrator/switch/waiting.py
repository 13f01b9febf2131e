"""When a switch begins: at a time, at a quiet moment, at an operator's word, and again after it went back.

A waiting switch is an intent per context: ``status`` shows what it waits for, ``carveout proceed`` and
``carveout cancel`` answer it. It has changed nothing while it waits.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from contexts.databases import Connection
from contexts.errors import CarveoutError, RefusedError
from contexts.model import Side
from migrator.control import intents, workers
from migrator.control.intents import Intent, IntentState, Kind
from migrator.control.migrations import CHANNEL
from migrator.run import Run
from migrator.switch import blockers
from migrator.switch.procedure import Interrupted

POLL_S = 0.5
QUIET_LAG_S = 1.0
#: So many looks in a row must find it quiet.
QUIET_LOOKS = 3
MAX_PAUSE_S = 60.0
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class SwitchCancelled(RefusedError):
    """Somebody withdrew the switch while it waited."""


@dataclass(frozen=True)
class Moment:
    """When a switch may begin, and how often it is tried again after it went back."""

    at: dt.datetime | None = None
    when_quiet: bool = False
    hold: bool = False
    retries: int = 0

    @property
    def now(self) -> bool:
        """Whether there is nothing to wait for."""
        return self == Moment()


def at_moment(runs: Sequence[Run], to_side: Side, moment: Moment, attempt: Callable[[], _T]) -> _T:
    """Wait for the moment, then run ``attempt``, again with back-off while it fails with what may pass.

    :raises SwitchCancelled: somebody ran ``carveout cancel``.
    """
    if moment.now:
        return attempt()
    with ExitStack() as stack:
        conn = stack.enter_context(runs[0].databases.shared.connect(f"waiting/{runs[0].name}"))
        waiting = _Waiting(conn, runs, to_side)
        try:
            if moment.at is not None:
                at = moment.at
                waiting.until(f"waits until {at.isoformat()}", lambda: dt.datetime.now(dt.UTC) >= at)
            if moment.when_quiet:
                waiting.until("waits for a quiet moment", _Quiet(runs, to_side.other))
            if moment.hold:
                waiting.until("is held: carveout proceed", waiting.told_to_proceed, held=True)
            found = _attempts(waiting, moment.retries, attempt)
        except BaseException:
            waiting.settle(IntentState.FAILED)
            raise
        waiting.settle(IntentState.DONE)
        return found


def _attempts(waiting: _Waiting, retries: int, attempt: Callable[[], _T]) -> _T:
    for number in range(retries + 1):
        waiting.say(f"is tried ({number + 1} of {retries + 1})")
        try:
            return attempt()
        except CarveoutError as error:
            if number == retries or not error.transient or isinstance(error, Interrupted):
                raise
            pause_s = min(2.0**number, MAX_PAUSE_S)
            _log.warning("attempt %d went back: %s; again in %.0f s", number + 1, error.message, pause_s)
            again = time.monotonic() + pause_s
            waiting.until(f"went back, again in {pause_s:.0f} s: {error.message}", _reached(again))
    raise AssertionError("the last attempt returns or raises")


def _reached(moment: float) -> Callable[[], bool]:
    return lambda: time.monotonic() >= moment


class _Waiting:
    """The intents of a switch that waits."""

    def __init__(self, conn: Connection, runs: Sequence[Run], to_side: Side) -> None:
        self._conn = conn
        conn.execute(f"LISTEN {CHANNEL}")
        self._intents = [intents.request(conn, run.name, Kind.SWITCH, {"to": to_side}) for run in runs]

    def until(self, what: str, ready: Callable[[], bool], *, held: bool = False) -> None:
        """Wait; ``held``: for ``carveout proceed``.

        :raises SwitchCancelled: somebody withdrew it.
        """
        self.say(what, held=held)
        while not ready():
            next(self._conn.notifies(timeout=POLL_S, stop_after=1), None)
            self._require_standing()
        self._require_standing()

    def say(self, what: str, *, held: bool = False) -> None:
        """Let ``status`` show what is waited for."""
        for intent in self._intents:
            intents.note(self._conn, intent, {"waits": what, "held": held})

    def told_to_proceed(self) -> bool:
        """Whether an operator has answered one of them."""
        return any(intent.state is IntentState.ACCEPTED for intent in self._now())

    def settle(self, state: IntentState) -> None:
        """The end of all of them, where nobody has withdrawn them."""
        for intent in self._intents:
            intents.answer(self._conn, intent, state, {})

    def _now(self) -> list[Intent]:
        return [intents.read(self._conn, intent.id) for intent in self._intents]

    def _require_standing(self) -> None:
        if gone := [one.context for one in self._now() if one.state is IntentState.CANCELLED]:
            raise SwitchCancelled(
                f"context {gone[0]!r}: the switch was cancelled while it waited",
                unchanged="nothing was changed",
                next_step=f"carveout status {gone[0]}",
            )


class _Quiet:
    """Little lag, and no long transaction on the tables, several times in a row."""

    def __init__(self, runs: Sequence[Run], side: Side) -> None:
        self._runs, self._side, self._looks = runs, side, 0

    def __call__(self) -> bool:
        self._looks = self._looks + 1 if all(map(self._is_quiet, self._runs)) else 0
        return self._looks >= QUIET_LOOKS

    def _is_quiet(self, run: Run) -> bool:
        report = workers.read(run.control, run.name)
        lag_s = report.report.get("lag_s") if report is not None else None
        return lag_s is not None and lag_s <= QUIET_LAG_S and not blockers.older(run, self._side)


def answer(conn: Connection, context: str, *, proceed: bool) -> str:
    """Let a switch that is held go on, or withdraw one that waits; returns what it had waited for.

    :raises RefusedError: none waits.
    """
    waiting = [one for one in intents.open_intents(conn, context) if one.kind is Kind.SWITCH]
    if proceed:
        waiting = [one for one in waiting if one.payload.get("held")]
    if not waiting:
        raise RefusedError(
            f"context {context!r}: no switch {'is held' if proceed else 'waits'}",
            unchanged="nothing was changed",
            next_step=f"carveout status {context}",
        )
    if proceed:
        intents.answer(conn, waiting[-1], IntentState.ACCEPTED, {})
    else:
        intents.cancel(conn, context, Kind.SWITCH)
    return str(waiting[-1].payload.get("waits", ""))
