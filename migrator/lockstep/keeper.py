"""The worker's side tasks for lockstep: ends what applications left prepared, and leaves where the sides differ.

Two threads: a repair waits for the worker, the worker for what is prepared, and that for the recovery.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import psycopg

from contexts.databases import Databases
from contexts.errors import CarveoutError, DatabaseUnreachable, RefusedError
from contexts.model import Context, Side
from migrator.control.locks import exclusive
from migrator.executor import Live
from migrator.lifecycle import State
from migrator.lockstep import findings, mending, phase
from migrator.lockstep.recovery import forget, recover
from migrator.run import Run

TICK_S = 0.5
#: A transaction that was prepared longer ago than this has lost its application, or its application is very slow:
#: either way the shared side has decided, or the transaction is left alone.
ORPHAN_S = 1.0
#: Between two attempts while one of the servers is away.
LONGEST_PAUSE_S = 2.0
#: How long a worker that must end tries to leave lockstep.
PATIENCE_S = 10.0
_log = logging.getLogger(__name__)


class LockstepKeeper:
    """Runs beside the stream, also after lockstep: a dying application may come late."""

    def __init__(self, context: Context, databases: Databases, stop: threading.Event, at_work: threading.Event) -> None:
        """:param at_work: set while this is the worker that keeps; of several one does."""
        self._context = context
        self._databases = databases
        self._stop, self._at_work = stop, at_work
        self._reached_s = time.monotonic()
        self._threads = [
            threading.Thread(target=self._again, args=(task,), name=f"lockstep-{context.name}", daemon=True)
            for task in (self._recover, self._look)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def leave(self, reason: str) -> None:
        """Leave lockstep, where the context is in it, and end what is prepared; where that fails it is only told."""
        name, until = self._context.name, time.monotonic() + PATIENCE_S
        executor = Live(self._databases, f"lockstep/{name}")
        run = Run(self._context, self._databases, executor)
        try:
            while run.migration().state is State.LOCKSTEP and time.monotonic() < until:
                self._leave(reason)
                self._stop.wait(TICK_S)  # another driver may be at work
            recover(run.control, executor.connection(Side.SERVICE), name)
        except (psycopg.Error, CarveoutError) as error:
            _log.error("context %s: lockstep cannot be left: %s", name, error)
        finally:
            executor.close()

    def join(self) -> None:
        """Wait for the end after the stop event."""
        for thread in self._threads:
            thread.join()

    def _again(self, task: Callable[[Run], None]) -> None:
        """Do it every :data:`TICK_S`, on connections that are opened again where they broke."""
        executor, pause_s = Live(self._databases, f"lockstep/{self._context.name}"), TICK_S
        run = Run(self._context, self._databases, executor)
        while not self._stop.wait(pause_s):
            if not self._at_work.is_set():
                self._reached_s = time.monotonic()
                continue
            try:
                task(run)
                pause_s = TICK_S
            except (psycopg.Error, CarveoutError) as error:
                _log.warning("context %s: lockstep cannot be looked after: %s", run.name, error)
                executor.close()
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        executor.close()

    def _recover(self, run: Run) -> None:
        """Also without lockstep: a transaction over several places is prepared in the same way."""
        service = run.executor.connection(Side.SERVICE)
        found = recover(run.control, service, run.name, min_age_s=ORPHAN_S)
        for gid in found.undecided:
            _log.error("context %s: %s was prepared for another server: carveout doctor %s", run.name, gid, run.name)
        forget(run.control, service, run.name)

    def _look(self, run: Run) -> None:
        try:
            service = run.executor.connection(Side.SERVICE)
            differ = findings.unrepaired(service, run.name) if findings.is_used(service, run.name) else 0
        except (psycopg.OperationalError, DatabaseUnreachable):
            self._fall_back(run)
            raise
        self._reached_s = time.monotonic()
        if differ:
            self._differ(run, differ)

    def _differ(self, run: Run, differ: int) -> None:
        match run.migration().state:
            case State.LOCKSTEP if self._context.options.lockstep_tolerance == "none":
                self._leave(f"the audit found {differ} differences")
            case State.LOCKSTEP | State.STREAMING if findings.mendable(run.executor.connection(Side.SERVICE), run.name):
                self._as_driver(mending.mend)
            case _:
                pass

    def _fall_back(self, run: Run) -> None:
        """The service side is away: where that is asked for, go on without it; the stream carries what follows."""
        limit_s = self._context.options.lockstep_fallback_s
        if not limit_s or time.monotonic() - self._reached_s < limit_s:
            return
        if run.migration().state is State.LOCKSTEP:
            self._leave(f"the service side was away for {limit_s:g} s")

    def _leave(self, reason: str) -> None:
        def leave(run: Run) -> None:
            phase.leave(run, reason)
            _log.error("context %s: lockstep was left: %s", run.name, reason)

        self._as_driver(leave)

    def _as_driver(self, action: Callable[[Run], object]) -> None:
        name = self._context.name
        executor = Live(self._databases, f"lockstep/{name}")
        try:
            with exclusive(self._databases.shared, name, "driver"):
                action(Run(self._context, self._databases, executor))
        except RefusedError as error:  # a driver is at work, or the stream is not there yet: look again
            _log.info("context %s: %s", name, error)
        finally:
            executor.close()
