"""The gate as a driver: gated transactions wait for a lock, then ask the route; nobody has to be repointed."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psycopg

from contexts.databases import Database
from contexts.model import Side
from migrator.sides.gate import GateLock
from migrator.traffic.driver import TrafficBusy


class Gate:
    """The gate of one context, on the side that is open."""

    def __init__(self, database: Database, context: str) -> None:
        self.name = f"the gate of {context}"
        self._side = database.side
        self._lock = GateLock(database, context)

    def check(self, from_side: Side, to_side: Side) -> Iterable[str]:
        """``prepare`` has made it."""
        return ()

    def ready(self) -> None:
        """Open the session."""
        self._lock.ready()

    def hold(self, deadline: float) -> None:
        """Close it: waits for gated transactions in flight."""
        try:
            self._lock.take(deadline - time.monotonic())
        except psycopg.errors.LockNotAvailable as error:
            pids = self._lock.holders()
            raise TrafficBusy(f"gated transactions on the {self._side} side did not end in time", pids) from error

    def repoint(self, side: Side, deadline: float) -> None:
        """The route leads gated transactions."""

    def release(self, side: Side) -> None:
        """Open it."""
        self._lock.give_back()

    def close(self) -> None:
        """Open it and end its session."""
        self._lock.close()
