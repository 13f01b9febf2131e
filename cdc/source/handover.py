"""The queue between the thread that receives and the one that applies, bounded in bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from cdc.events import Event, Idle


class Handover:
    """Events in order. An error comes out after all events that were put before it."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._events: deque[tuple[Event, int]] = deque()
        self._bytes = 0
        self._error: BaseException | None = None
        self._closed = False
        self._waiting = 0
        self._changed = threading.Condition()

    @property
    def bytes(self) -> int:
        """What the queued events weigh."""
        return self._bytes

    def put(self, event: Event, weight: int, timeout_s: float) -> bool:
        """Add an event of ``weight`` bytes; False where it found no room in time and must be put again.

        An event heavier than the limit goes in alone. After :meth:`close` events are dropped.
        """
        with self._changed:
            if not self._has_room(weight) and not self._wait(lambda: self._has_room(weight), timeout_s):
                return False
            if self._closed:
                return True
            if isinstance(event, Idle) and self._events and isinstance(self._events[-1][0], Idle):
                self._bytes -= self._events.pop()[1]  # the later one says more
            self._events.append((event, weight))
            self._bytes += weight
            self._tell()
            return True

    def get(self, timeout_s: float) -> Event | None:
        """The next event, or None where none came in time.

        :raises BaseException: what :meth:`fail` was given, once the events before it are taken.
        """
        with self._changed:
            if not self._events:
                self._wait(lambda: self._events or self._error or self._closed, timeout_s)
            if self._events:
                event, weight = self._events.popleft()
                self._bytes -= weight
                self._tell()
                return event
            if self._error:
                raise self._error
            return None

    def fail(self, error: BaseException) -> None:
        """End the queue with an error."""
        with self._changed:
            self._error = error
            self._tell()

    def close(self) -> None:
        """Drop what is queued and let both sides go on at once."""
        with self._changed:
            self._closed = True
            self._events.clear()
            self._bytes = 0
            self._tell()

    def _wait(self, ready: Callable[[], object], timeout_s: float) -> bool:
        self._waiting += 1
        try:
            return bool(self._changed.wait_for(ready, timeout_s))
        finally:
            self._waiting -= 1

    def _tell(self) -> None:
        if self._waiting:  # mostly nobody does, and to find that out costs more than the rest
            self._changed.notify_all()

    def _has_room(self, weight: int) -> bool:
        return self._closed or not self._events or self._bytes + weight <= self._limit
