"""The worker's side task for lockstep: ends what applications left prepared, and leaves where the sides differ."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import psycopg

from contexts.databases import Connection, Databases
from contexts.errors import CarveoutError, DatabaseUnreachable, RefusedError
from contexts.model import Context
from migrator.control import migrations
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
_log = logging.getLogger(__name__)


class LockstepKeeper:
    """Runs beside the stream, in a thread of its own, also after lockstep: a dying application may come late."""

    def __init__(self, context: Context, databases: Databases, stop: threading.Event, at_work: threading.Event) -> None:
        """:param at_work: set while this is the worker that keeps; of several one does."""
        self._context = context
        self._databases = databases
        self._stop, self._at_work = stop, at_work
        self._reached_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"lockstep-{context.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end after the stop event."""
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._keep()
            except (psycopg.Error, CarveoutError) as error:
                _log.warning("context %s: lockstep cannot be looked after: %s", self._context.name, error)
                self._stop.wait(TICK_S)

    def _keep(self) -> None:
        name = self._context.name
        with self._databases.shared.connect(f"lockstep/{name}") as shared:
            try:
                with self._databases.service.connect(f"lockstep/{name}") as service:
                    self._reached_s = time.monotonic()
                    while not self._stop.wait(TICK_S):
                        if self._at_work.is_set():
                            self._end_orphans(shared, service)
                            self._look(shared, service)
                        self._reached_s = time.monotonic()
            except (psycopg.OperationalError, DatabaseUnreachable):
                if self._at_work.is_set():
                    self._fall_back(shared)
                raise

    def _fall_back(self, shared: Connection) -> None:
        """The service side is away: where that is asked for, go on without it; the stream carries what follows."""
        limit_s = self._context.options.lockstep_fallback_s
        if not limit_s or migrations.read(shared, self._context.name).state is not State.LOCKSTEP:
            return
        if time.monotonic() - self._reached_s >= limit_s:
            self._as_driver(lambda run: phase.leave(run, f"the service side was away for {limit_s:g} s"))
            _log.error("context %s: left lockstep: the service side is away", self._context.name)

    def _end_orphans(self, shared: Connection, service: Connection) -> None:
        """Also without lockstep: a transaction over several places is prepared in the same way."""
        name = self._context.name
        found = recover(shared, service, name, min_age_s=ORPHAN_S)
        for gid in found.undecided:
            _log.error("context %s: %s was prepared for another server: carveout doctor %s", name, gid, name)
        forget(shared, service, name)

    def _look(self, shared: Connection, service: Connection) -> None:
        name = self._context.name
        if not findings.is_used(service, name):
            return
        differ = findings.unrepaired(service, name)
        if not differ or self._context.options.lockstep_tolerance != "none":
            return
        match migrations.read(shared, name).state:
            case State.LOCKSTEP:
                self._as_driver(lambda run: phase.leave(run, f"the audit found {differ} differences"))
                _log.error("context %s: the audit found %d differences", name, differ)
            case State.STREAMING:
                self._as_driver(mending.mend)
            case _:
                pass

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
