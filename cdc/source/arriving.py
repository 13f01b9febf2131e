"""A committed transaction that is still being received: its records are taken while they come.

Where it is sent at its commit, all of it is known to be committed when the first record comes. So a large one need
not wait in a spool file until it is whole: it is written while the rest is on its way. What bounds the memory is the
one who receives, who waits for room (:attr:`Arriving.is_full`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cdc.source.spool import Spool

#: Records change hands in parts of so many bytes: to do so for each of them would cost more than the rest.
_PART: Final = 64 * 1024


class Arriving:
    """Records from the thread that receives to the one that applies, bounded in bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._collecting: list[bytes] = []
        self._collected = 0
        self._parts: list[list[bytes]] = []
        self._bytes = 0
        self._is_whole = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    @property
    def is_full(self) -> bool:
        """Whether nothing should be received before some of it is taken."""
        return self._bytes > self._limit

    def add(self, record: bytes) -> None:
        """Take in the next record, whether there is room or not."""
        self._collecting.append(record)
        self._collected += len(record)
        if self._collected >= _PART:
            self._pass_on()

    def end(self) -> None:
        """The commit has come: this was all."""
        self._pass_on(is_whole=True)

    def fail(self, error: BaseException) -> None:
        """The rest will not come; the one who iterates gets ``error``. Nothing where it is whole."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def await_room(self, timeout_s: float) -> bool:
        """Wait until there is room; False where there is none in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.is_full or self._error is not None, timeout_s)

    def records(self) -> Iterator[bytes]:
        """The records in their order, waiting for each; can be iterated once.

        :raises BaseException: what :meth:`fail` was given. It never ends before the transaction does.
        """
        while part := self._next():
            yield from part

    def spooled(self, folder: Path) -> Spool:
        """The records in a spool file, once all have come; instead of :meth:`records`, and raises as it does.

        :raises SpoolFull: the file cannot be made or cannot grow.
        """
        spool = Spool(folder)
        spool.extend(self.records())
        return spool

    def _pass_on(self, *, is_whole: bool = False) -> None:
        with self._changed:
            self._is_whole = is_whole
            if self._collecting:
                self._parts.append(self._collecting)
                self._bytes += self._collected
            self._collecting, self._collected = [], 0
            self._changed.notify_all()

    def _next(self) -> list[bytes]:
        """The next records; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._parts or self._is_whole or self._error)
            if self._parts:
                part = self._parts.pop(0)
                self._bytes -= sum(map(len, part))
                self._changed.notify_all()
                return part
            if not self._is_whole:
                assert self._error is not None
                raise self._error
            return []
