"""The side task of a worker that looks at connector and topic, where the stream goes through Kafka."""

from __future__ import annotations

import logging
import threading
from typing import Any

import psycopg

from contexts.databases import Databases
from contexts.errors import CarveoutError
from contexts.model import Context
from migrator.control import migrations

#: A look asks Connect, Kafka and both sides.
LOOK_S = 5.0
_log = logging.getLogger(__name__)


class TransportTask:
    """Looks every :data:`LOOK_S`, in a thread of its own: a Kafka that hangs delays no report."""

    def __init__(self, context: Context, databases: Databases, stop: threading.Event, taken: threading.Event) -> None:
        """:param taken: set while this worker is the one at work."""
        #: A :meth:`cdc.kafka.health.Health.to_json`; None before the first look, and without Kafka.
        self.report: dict[str, Any] | None = None
        self._context = context
        self._databases = databases
        self._stop = stop
        self._taken = taken
        self._thread = threading.Thread(target=self._run, name=f"transport-{context.name}", daemon=True)

    def start(self) -> None:
        """Begin to look, where there is something to look at."""
        if self._context.source == "kafka":
            self._thread.start()

    def join(self) -> None:
        """Wait for the task to end after the worker's stop event."""
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            if not self._taken.is_set():
                continue
            try:
                self._look()
            except (psycopg.Error, CarveoutError) as error:
                _log.warning("context %s: the connector cannot be looked at: %s", self._context.name, error)
                self.report = None

    def _look(self) -> None:
        from cdc.kafka.health import look
        from cdc.kafka.link import Link

        with self._databases.shared.connect(f"transport/{self._context.name}") as conn:
            migration = migrations.read(conn, self._context.name)
        if not migration.state.has_stream:
            self.report = None
            return
        sides = self._databases[migration.open_side], self._databases[migration.closed_side]
        found = look(Link.of(self._context, migration.stream, *sides))
        if found.has_failed and not (self.report and self.report["error"] == found.error):
            _log.error("context %s: connector %s has failed: %s", self._context.name, found.connector, found.error)
        self.report = found.to_json()
