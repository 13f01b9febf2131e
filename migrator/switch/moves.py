"""What a switch is made of: one move per context, the stopwatch, the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from contexts.errors import CarveoutError
from contexts.model import Side
from migrator.control.switches import Switch
from migrator.run import Run
from migrator.switch import sequences

#: Compares what changed last, within so many seconds; returns what it saw, raises to go back.
LastCheck = Callable[[float], dict[str, Any]]


class BudgetExceeded(CarveoutError):
    """Writes would have waited for longer than allowed; the switch goes back."""

    transient = True


@dataclass
class Move:
    """One context's part in a switch."""

    run: Run
    switch: Switch
    verify: LastCheck
    pairs: sequences.Pairs = field(default_factory=list)


@dataclass(frozen=True)
class Terms:
    """What the operator asks of a switch, beyond the contexts' options."""

    #: End the sessions that stand in the way.
    terminate_blockers: bool = False


@dataclass(frozen=True)
class Limits:
    """The strictest options of all contexts of a switch, in seconds."""

    fence_and_drain_s: float
    blocked_s: float
    recheck_s: float
    attempt_s: float
    patience_s: float

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Limits:
        """The limits of a switch of these contexts."""
        options = [run.context.options for run in runs]
        blocked = min(one.write_block_budget_ms for one in options) / 1000
        return cls(
            # A tenth of the budget is left for what comes after the drain, and for going back.
            fence_and_drain_s=min(*(one.switch_deadline_ms / 1000 for one in options), blocked * 0.9),
            blocked_s=blocked,
            recheck_s=min(one.recheck_budget_ms for one in options) / 1000,
            attempt_s=min(one.lock_timeout_ms for one in options) / 1000,
            patience_s=min(one.hold_patience_s for one in options),
        )


class Stopwatch:
    """The time without writes and its breakdown, in milliseconds."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self.total_ms = 0.0
        #: What the last check saw.
        self.facts: dict[str, Any] = {}
        #: When the first transaction had to wait; None while none has to.
        self.began: float | None = None
        #: Whether the journal knows what may be held.
        self.traffic_noted = False
        self._last = 0.0

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
        self.total_ms = self.blocked_ms()

    def blocked_ms(self) -> float:
        """How long writes have waited until now, or waited in all once stopped."""
        if self.began is None:
            return 0.0
        return self.total_ms or round((time.monotonic() - self.began) * 1000, 1)

    def require(self, budget_s: float) -> float:
        """The seconds that are left of the budget.

        :raises BudgetExceeded: none is.
        """
        left = budget_s - self.blocked_ms() / 1000
        if left <= 0:
            raise BudgetExceeded(
                f"writes have waited for {self.blocked_ms():.0f} ms, the budget is {budget_s * 1000:.0f} ms"
                f" ({', '.join(f'{part} {took:.0f} ms' for part, took in self.parts.items())})",
                unchanged="the side that was open is open again",
                next_step="try again at a quieter time (--when-quiet, --retries), or raise write_block_budget_ms",
            )
        return left


@dataclass(frozen=True)
class SwitchReport:
    """What a finished switch did."""

    contexts: tuple[str, ...]
    from_side: Side
    to_side: Side
    write_block_ms: float
    breakdown_ms: dict[str, float]
    #: ``changed_keys`` that the stream remembered, ``rechecked_keys`` that were compared at the fence, and
    #: ``not_rechecked``.
    facts: dict[str, Any]
