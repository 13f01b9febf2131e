"""What else works on the open side, so that a verification gives way to it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Self

from contexts import sqlfiles
from contexts.databases import Connection, Database
from contexts.model import Options

_SQL = sqlfiles.load("migrator", "load.sql")
_FRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """Sessions of others."""

    #: That run a statement just now.
    active: int
    #: That do, or did within the last second: between two statements an application is at work, too.
    at_work: int
    #: What the look itself took.
    probe_ms: float


class Load:
    """Looks at the open side at most once a second; safe between threads.

    :param share: of the time in which the verification reads while others are active; 1: it never rests.
    :param always: rest whether others are active or not.
    """

    def __init__(
        self, open_: Database, options: Options, stop: threading.Event, *, share: float, always: bool = False
    ) -> None:
        self._open, self._options, self._stop = open_, options, stop
        self._share, self._always = share, always
        self._looking = threading.Lock()
        self._conn: Connection | None = None
        self._at, self._seen = float("-inf"), Seen(0, 0, 0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._conn is not None:
            self._conn.close()

    def limit_reached(self) -> str | None:
        """Which of the context's limits is passed (``throttle_...``), or None: then nothing at all is read."""
        sessions, probe_ms = self._options.throttle_active_sessions, self._options.throttle_probe_ms
        if not sessions and not probe_ms:
            return None
        seen = self._look()
        if 0 < sessions < seen.active:
            return f"{seen.active} active sessions on the open side (limit {sessions})"
        if 0 < probe_ms < seen.probe_ms:
            return f"a probe of the open side took {seen.probe_ms:.0f} ms (limit {probe_ms:g} ms)"
        return None

    def rest(self, read_s: float) -> None:
        """Rest after reading for ``read_s`` seconds, for as long as others are active."""
        until = time.monotonic() + read_s * (1 / self._share - 1)
        while (left := until - time.monotonic()) > 0 and (self._always or self._look().at_work):
            if self._stop.wait(min(left, _FRESH_S)):
                return

    def _look(self) -> Seen:
        with self._looking:
            began = time.monotonic()
            if began - self._at >= _FRESH_S:
                if self._conn is None or self._conn.closed:
                    self._conn = self._open.connect("load")
                active, at_work = self._conn.execute(_SQL["sessions"]).fetchall()[0]
                self._at = time.monotonic()
                self._seen = Seen(active, at_work, (self._at - began) * 1000)
            return self._seen
