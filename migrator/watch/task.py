"""The side task of a worker that watches the closed side."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import psycopg

from contexts.catalog import read_tables
from contexts.databases import Databases
from contexts.errors import CarveoutError
from contexts.model import Context, Side
from migrator.control import migrations
from migrator.control.migrations import Migration
from migrator.executor import Live
from migrator.lifecycle import State
from migrator.run import Run
from migrator.sides import route
from migrator.watch import window
from migrator.watch.fence import FenceWatch, rogue_writes
from migrator.watch.stragglers import Collector

_WATCHED = (State.STREAMING, State.SWITCHED)
_log = logging.getLogger(__name__)


class WatchTask:
    """Looks at the closed side every ``watch_interval_s``, in a thread of its own: a side that hangs delays nothing."""

    def __init__(self, context: Context, databases: Databases, stop: threading.Event, at_work: threading.Event) -> None:
        """:param at_work: set while this is the worker that looks; of several one does."""
        #: What ``status`` shows; empty before the first look.
        self.report: dict[str, Any] = {}
        self._context = context
        self._databases = databases
        self._stop, self._at_work = stop, at_work
        self._closed_by = (0, 0)
        self._fence: FenceWatch | None = None
        self._collector = Collector(context.name)
        self._thread = threading.Thread(target=self._run, name=f"watch-{context.name}", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the task to end after the worker's stop event."""
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            executor = Live(self._databases, f"watch/{self._context.name}")
            try:
                while not self._stop.wait(self._context.options.watch_interval_s):
                    if self._at_work.is_set():
                        self._look(executor)
            except (psycopg.Error, CarveoutError) as error:
                _log.warning("context %s: the closed side cannot be watched: %s", self._context.name, error)
                self.report = {**self.report, "error": " ".join(str(error).split())}
                self._stop.wait(self._context.options.watch_interval_s)
            finally:
                executor.close()

    def _look(self, executor: Live) -> None:
        migration = migrations.read(executor.connection(Side.SHARED), self._context.name)
        if migration.state not in _WATCHED:
            self._fence = None
            return
        side = migration.closed_side
        driver = route.driver(executor, side, self._context.name)
        # Read again behind the driver's number: a switch that begins from here on has a higher one.
        if migrations.read(executor.connection(Side.SHARED), self._context.name) != migration:
            return
        self._watch(executor, migration, driver)

    def _watch(self, executor: Live, migration: Migration, driver: int) -> None:
        side, conn = migration.closed_side, executor.connection(migration.closed_side)
        if self._fence is None or self._closed_by != (migration.epoch, driver):
            self._fence = FenceWatch(self._context.name, side)
            self._closed_by = (migration.epoch, driver)
        tables = list(read_tables(conn, self._context.table_names).values())
        for finding in self._fence.look(executor, tables, driver):
            _log.error("context %s: the %s side is closed, but: %s", self._context.name, side, finding)
            detail = {"side": side, "finding": finding}
            migrations.record(executor.connection(Side.SHARED), self._context.name, "fence", detail)
        run = Run(self._context, self._databases, executor)
        if said := window.close(run, migration):
            _log.error("context %s: %s", self._context.name, said)
            migrations.record(run.control, self._context.name, "way_back", {"finding": said})
        self._collector.look(conn, migration.epoch, [table.oid for table in tables])
        writes = rogue_writes(conn, self._context.name)
        self.report = {
            "side": side,
            "looked_at": time.time(),
            "rogue_writes": len(writes),
            "last_rogue_at": writes[0].at.isoformat() if writes else None,
            "error": None,
        }
