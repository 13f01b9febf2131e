"""What else works on the open side, so that a verification gives way to it."""

from __future__ import annotations

import threading
import time
from typing import Self

from contexts.databases import Connection, Database
from contexts.model import Options

#: A role that may not see the state of others' sessions takes them for active: too slow is better than too hard.
ACTIVE_SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE coalesce(state, 'active') = 'active'"
    " AND backend_type = 'client backend' AND application_name NOT LIKE 'carveout/%'"
)
_FRESH_S = 1.0


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
        self._at, self._active, self._probe_ms = float("-inf"), 0, 0.0

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
        active, took_ms = self._look()
        if 0 < sessions < active:
            return f"{active} active sessions on the open side (limit {sessions})"
        if 0 < probe_ms < took_ms:
            return f"a probe of the open side took {took_ms:.0f} ms (limit {probe_ms:g} ms)"
        return None

    def rest(self, read_s: float) -> None:
        """Rest after reading for ``read_s`` seconds, for as long as others are active."""
        until = time.monotonic() + read_s * (1 / self._share - 1)
        while (left := until - time.monotonic()) > 0 and (self._always or self._look()[0]):
            if self._stop.wait(min(left, _FRESH_S)):
                return

    def _look(self) -> tuple[int, float]:
        with self._looking:
            began = time.monotonic()
            if began - self._at >= _FRESH_S:
                if self._conn is None or self._conn.closed:
                    self._conn = self._open.connect("load")
                self._active = self._conn.execute(ACTIVE_SESSIONS).fetchall()[0][0]
                self._at = time.monotonic()
                self._probe_ms = (self._at - began) * 1000
            return self._active, self._probe_ms
