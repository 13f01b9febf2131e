"""The worker's side task that publishes the events of outbox tables."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg

from cdc import state
from cdc.outbox import queue
from cdc.outbox.publisher import Publisher
from cdc.outbox.sinks import Sink, open_sink
from contexts.databases import Connection, Databases
from contexts.errors import CarveoutError
from contexts.model import Context, Side
from migrator.control.migrations import Migration

#: How long it waits for a notification before it looks anyway.
TICK_S = 1.0
RETRY_S = 2.0
_NOTHING = {"published": 0, "waiting": 0, "oldest_s": None, "held": 0}
_log = logging.getLogger(__name__)


class OutboxTask:
    """Publishes in a thread of its own: a sink that is away holds up no stream, and no switch."""

    def __init__(self, context: Context, databases: Databases, stop: threading.Event, taken: threading.Event) -> None:
        """:param taken: set while this worker is the one at work; another one publishes otherwise."""
        #: What ``status`` shows; empty where the context has no outbox.
        self.report: dict[str, Any] = {}
        self._context = context
        self._databases = databases
        self._stop = stop
        self._taken = taken
        self._published = 0
        self._closed = Side.SERVICE
        self._thread = threading.Thread(target=self._run, name=f"outbox-{context.name}", daemon=True)

    def assign(self, migration: Migration) -> None:
        """The stream that runs from now on queues on its closed side; the first call begins to publish."""
        self._closed = migration.closed_side
        if self._context.outbox and self._thread.ident is None:
            for side in Side:  # a context that was prepared before there were outboxes
                state.install(self._databases[side])
            self._thread.start()

    def join(self) -> None:
        """Wait for the end after the stop event."""
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._taken.wait(TICK_S):
                continue
            try:
                with self._opened() as (connections, sink):
                    self._publish(connections, sink, self._closed)
            except (psycopg.Error, CarveoutError) as error:
                said = " ".join(str(error).split())
                _log.warning("context %s: outbox: %s", self._context.name, said)
                self.report = {**_NOTHING, **self.report, "error": said}
                self._stop.wait(RETRY_S)

    @contextmanager
    def _opened(self) -> Iterator[tuple[dict[Side, Connection], Sink]]:
        with ExitStack() as stack:
            purpose = f"outbox/{self._context.name}"
            connections = {side: stack.enter_context(self._databases[side].connect(purpose)) for side in Side}
            sink = open_sink(self._context)
            stack.callback(sink.close)
            yield connections, sink

    def _publish(self, connections: dict[Side, Connection], sink: Sink, closed: Side) -> None:
        """Publish until the sides are exchanged, or it is not this worker's turn any more."""
        publisher = Publisher(self._context.name, connections, sink, self._is_over)
        connections[closed].execute(f"LISTEN {queue.CHANNEL}")
        while not self._is_over() and closed is self._closed:
            try:
                self._published += publisher.run()
            finally:
                self._report(connections)
            # One notification is enough: a run takes everything.
            next(connections[closed].notifies(timeout=TICK_S, stop_after=1), None)

    def _is_over(self) -> bool:
        return self._stop.is_set() or not self._taken.is_set()

    def _report(self, connections: dict[Side, Connection]) -> None:
        found = queue.together([queue.backlog(conn, self._context.name) for conn in connections.values()])
        self.report = {
            "published": self._published,
            "waiting": found.events,
            "oldest_s": max(0.0, time.time() - found.oldest.timestamp()) if found.oldest else None,
            "held": found.held,
            "error": None,
        }
