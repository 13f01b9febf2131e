"""Verifies round after round until it is told to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from contexts.databases import Databases
from contexts.errors import CarveoutError, RefusedError
from contexts.model import Context
from migrator import verify as verifying
from migrator.comparing import Manner, Told
from migrator.continuous import ROLE
from migrator.continuous.recheck import Rechecked, RecheckingBarriers
from migrator.control import migrations
from migrator.control.locks import exclusive
from migrator.lifecycle import Work
from migrator.verify import Verification

#: Seconds between two re-checks of the keys changed last, at most, but for a segment that takes longer.
RECHECK_S = 60.0
_BACKOFF_S = (1.0, 10.0)
_log = logging.getLogger(__name__)


def _silent(_: object) -> None:
    """The default of what a round tells."""


@dataclass
class Rounds:
    """Keeps the proof of one context fresh; ``stop`` ends it, and what is finished is kept."""

    context: Context
    both: Databases
    stop: threading.Event
    #: Told of every whole round, and of every re-check.
    on_round: Callable[[Verification], None] = _silent
    on_recheck: Callable[[Rechecked], None] = _silent
    every_s: float | None = None
    recheck_s: float = RECHECK_S
    #: The last whole round.
    last: Verification | None = None
    _barriers: RecheckingBarriers = field(init=False)

    def __post_init__(self) -> None:
        self._barriers = RecheckingBarriers(self.context, self.both, self.on_recheck)
        if self.every_s is None:  # so that the proof is never older than the switch allows
            self.every_s = self.context.options.proof_max_age_s / 2

    def run(self) -> None:
        """Verify until ``stop`` is set or the migration is over.

        What can be better later (no worker, a switch at work, a server away) is tried again.

        :raises RefusedError: another one runs for this context.
        :raises CarveoutError: what does not get better by itself: a file, a right.
        """
        with exclusive(self.both.shared, self.context.name, ROLE):
            failures = 0
            while not self.stop.is_set() and not self._is_over():
                began = time.monotonic()
                try:
                    self._round()
                    self._rest(began)
                    failures = 0
                except (CarveoutError, psycopg.OperationalError) as error:
                    if isinstance(error, CarveoutError) and not (error.transient or isinstance(error, RefusedError)):
                        raise
                    delay = min(_BACKOFF_S[1], _BACKOFF_S[0] * 2**failures)
                    failures += 1
                    _log.warning("context %s: %s; again in %.0f s", self.context.name, error, delay)
                    self.stop.wait(delay)

    def _round(self) -> None:
        manner = Manner(always_rest=True, max_snapshot_age_s=self.recheck_s)
        found = verifying.verify(self.context, self.both, manner, Told(stop=self.stop, barriers=self._barriers))
        if found.diff.finished_at is not None:
            self.last = found
            self.on_round(found)

    def _rest(self, began: float) -> None:
        """Only re-check until the next round is due."""
        assert self.every_s is not None
        while (left := began + self.every_s - time.monotonic()) > 0:
            if self.stop.wait(min(left, self.recheck_s)):
                return
            with self._barriers():
                pass

    def _is_over(self) -> bool:
        with self.both.shared.connect("verify") as conn:
            return migrations.read(conn, self.context.name).state.work is Work.END
