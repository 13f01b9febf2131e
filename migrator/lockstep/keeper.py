"""The worker's side task for lockstep: ends what applications left prepared, and leaves where the sides differ."""

from __future__ import annotations

import logging
import threading

import psycopg

from contexts.databases import Connection, Databases
from contexts.errors import CarveoutError, RefusedError
from contexts.model import Context
from migrator.control import migrations
from migrator.control.locks import exclusive
from migrator.executor import Live
from migrator.lifecycle import State
from migrator.lockstep import findings, phase
from migrator.lockstep.recovery import forget, recover
from migrator.run import Run

TICK_S = 0.5
#: A transaction that was prepared longer ago than this has lost its application, or its application is very slow:
#: either way the shared side has decided, or the transaction is left alone.
ORPHAN_S = 1.0
_log = logging.getLogger(__name__)


class LockstepKeeper:
    """Runs beside the stream, in a thread of its own, also after lockstep: a dying application may come late."""

    def __init__(self, context: Context, databases: Databases, stop: threading.Event) -> None:
        self._context = context
        self._databases = databases
        self._stop = stop
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
        with (
            self._databases.shared.connect(f"lockstep/{name}") as shared,
            self._databases.service.connect(f"lockstep/{name}") as service,
        ):
            while not self._stop.wait(TICK_S):
                if findings.is_used(service, name):
                    self._look(shared, service)

    def _look(self, shared: Connection, service: Connection) -> None:
        name = self._context.name
        found = recover(shared, service, name, min_age_s=ORPHAN_S)
        for gid in found.undecided:
            _log.error("context %s: %s was prepared for another server: carveout doctor %s", name, gid, name)
        forget(shared, service, name)
        if migrations.read(shared, name).state is not State.LOCKSTEP:
            return
        if (open_ := findings.unrepaired(service, name)) and self._context.options.lockstep_tolerance == "none":
            self._leave(f"the audit found {open_} differences")

    def _leave(self, reason: str) -> None:
        name = self._context.name
        executor = Live(self._databases, f"lockstep/{name}")
        try:
            with exclusive(self._databases.shared, name, "driver"):
                phase.leave(Run(self._context, self._databases, executor), reason)
                _log.error("context %s: left lockstep: %s", name, reason)
        except RefusedError as error:  # a driver is at work: look again when it is done
            _log.info("context %s: %s", name, error)
        finally:
            executor.close()
