"""The side task that listens to the control rows and reports what the worker does."""

from __future__ import annotations

import datetime as dt
import logging
import queue
import threading
import uuid
from collections.abc import Callable
from typing import Any

import psycopg

from cdc.lsn import format_lsn
from cdc.worker.signals import Signals
from contexts.databases import Connection, Databases
from contexts.errors import CarveoutError
from contexts.model import Context
from migrator.control import intents, locks, migrations, workers
from migrator.control.intents import Intent, Kind
from migrator.control.migrations import CHANNEL, Migration
from migrator.control.samples import Sampler
from migrator.lifecycle import State
from migrator.watch.task import WatchTask
from migrator.worker.monitor import Monitor
from migrator.worker.outbox import OutboxTask
from migrator.worker.requests import IntentBarrier
from migrator.worker.seat import Seat
from migrator.worker.transport import TransportTask

TICK_S = 1.0
#: The phase of a worker that was given the work of another, until it streams.
TAKING_OVER = "taking over"
#: And of one whose work broke off, and begins anew in a moment.
RETRYING = "retrying"
_log = logging.getLogger(__name__)


class ControlTask:
    """Turns control rows into :class:`Signals`, and the worker's numbers into its report row.

    Where the shared database cannot be reached the work goes on as last told; the task tries again.
    """

    def __init__(self, context: Context, databases: Databases, owner: uuid.UUID, stop: threading.Event) -> None:
        self.signals = Signals()
        self.assignment: Migration | None = None
        self.phase = "starting"
        self.error: str | None = None
        self.details: Callable[[], dict[str, Any]] = dict
        self._context = context
        self._databases = databases
        self._owner = owner
        self._stop = stop
        self._started_at = dt.datetime.now(dt.UTC)
        self._seen_barriers: set[int] = set()
        #: What runs beside it, by the name that its part of the report has.
        self._beside: dict[str, WatchTask | OutboxTask | TransportTask] = {}
        self._outbox: OutboxTask | None = None
        self._seat: Seat | None = None
        self._sampler = Sampler(context.name)
        self._thread = threading.Thread(target=self._run, name=f"control-{context.name}", daemon=True)

    def start(self, seat: Seat) -> None:
        """Begin to listen; what is heard counts, and is reported, only while the seat is taken."""
        self._seat = seat
        given = self._context, self._databases, self._stop, seat.taken
        watch, transport, self._outbox = WatchTask(*given), TransportTask(*given), OutboxTask(*given)
        self._beside = {"watch": watch, "outbox": self._outbox, "connector": transport}
        self._thread.start()
        watch.start()
        transport.start()

    def join(self) -> None:
        """Wait for the task to end after the worker's stop event."""
        self._thread.join()
        for task in self._beside.values():
            task.join()

    def interrupt(self) -> None:
        """End what runs: the seat was taken away."""
        self.signals.stop.set()
        self.signals.barriers = queue.SimpleQueue()  # another worker answers
        self._seen_barriers.clear()

    def assign(self, migration: Migration) -> Signals:
        """Say what the worker runs from now on; the signals are fresh, but for what was asked and not answered."""
        self.signals = Signals(barriers=self.signals.barriers)
        self.assignment = migration
        if self._outbox:
            self._outbox.assign(migration)
        return self.signals

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except (psycopg.Error, CarveoutError) as error:
                _log.warning("context %s: control rows cannot be read: %s", self._context.name, error)
                self._stop.wait(TICK_S)
        self.signals.stop.set()

    def _listen(self) -> None:
        with self._databases.shared.connect(f"control/{self._context.name}") as conn:
            conn.execute(f"LISTEN {CHANNEL}")
            with Monitor(self._databases, self._context) as monitor:
                while not self._stop.is_set():
                    self._tick(conn, monitor)
                    # One notification is enough: a tick reads everything.
                    next(conn.notifies(timeout=TICK_S, stop_after=1), None)
            self._tick_report(conn, {})

    def _tick(self, conn: Connection, monitor: Monitor) -> None:
        if self._seat is None or not self._seat.taken.is_set():
            return
        holder = locks.holder(conn, self._context.name, "worker")
        if holder != self._seat.pid:  # its session was lost: take it again, then go on
            self.signals.stop.set()
        if holder not in (None, self._seat.pid):  # it is another's meanwhile, which reports
            return
        migration = migrations.read(conn, self._context.name)
        if self.assignment and _differs(self.assignment, migration):
            self.signals.stop.set()
        if migration.state is not State.SWITCHING:
            self.signals.halted.clear()
        asked = intents.open_intents(conn, self._context.name)
        load = monitor.throttle_reason()
        self.signals.pause_reason = "asked to pause" if _first(asked, Kind.PAUSE) else load
        throttle = _first(asked, Kind.THROTTLE)
        self.signals.rows_per_s = float(throttle.payload["rows_per_s"]) if throttle else None
        for intent in asked:
            is_new = intent.kind is Kind.BARRIER and intent.id not in self._seen_barriers
            if is_new and self.phase not in (TAKING_OVER, RETRYING):  # it waits until this one streams
                self._seen_barriers.add(intent.id)
                self._on_barrier(conn, intent)
        self._tick_report(conn, monitor.measure(migration, self.signals.report))

    @property
    def _is_at_work(self) -> bool:
        return self._seat is not None and self._seat.taken.is_set()

    def _on_barrier(self, conn: Connection, intent: Intent) -> None:
        if self.phase == "streaming":
            self.signals.barriers.put(IntentBarrier(self._databases.shared, intent, lambda: not self._is_at_work))
        else:
            reason = f"the worker is {self.phase}, not streaming"
            intents.answer(conn, intent, intents.IntentState.FAILED, {"reason": reason})

    def _tick_report(self, conn: Connection, measured: dict[str, Any]) -> None:
        report = {
            "phase": "stopped" if self._stop.is_set() else self.phase,
            "error": self.error,
            "paused": self.signals.pause_reason,
            "halted": self.signals.halted.is_set(),
            **self.signals.report,
            **self.details(),
            **measured,
            **{name: task.report or None for name, task in self._beside.items()},
            **(self._seat.report() if self._seat else {}),
        }
        if isinstance(report.get("end_lsn"), int):  # as in the last report of a worker, which measures nothing
            report["end_lsn"] = format_lsn(report["end_lsn"])
        if self._is_at_work:
            workers.publish(conn, self._context.name, self._owner, self._started_at, report)
            self._sampler.take(conn, report)


def _differs(running: Migration, now: Migration) -> bool:
    """Whether the worker has to do something else than what it runs."""
    return (running.epoch, running.open_side, running.state.work) != (now.epoch, now.open_side, now.state.work)


def _first(asked: list[Intent], kind: Kind) -> Intent | None:
    return next((intent for intent in asked if intent.kind is kind), None)
