"""How far the copy is, from what the ledger held and what happened since. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from cdc.copy.model import CopyProgress, Moved, Part
from cdc.copy.worker import Load, Task


class Tracker:
    """Counts one cycle on top of what was done before it."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = len(parts)
        self._done = sum(part.done for part in parts)
        self._rows = sum(part.rows for part in parts if part.done)
        self._bytes_total = sum(part.estimated_bytes for part in parts)
        self._bytes_before = self._bytes_done = sum(part.estimated_bytes for part in parts if part.done)
        self.moved = Moved()
        self.parts_moved = 0

    def landed(self, task: Task, moved: Moved) -> None:
        """Take note of a committed task."""
        self.moved += moved
        if isinstance(task, Load):
            self.parts_moved += 1
            self._done += 1
            self._rows += moved.rows
            self._bytes_done += task.part.estimated_bytes

    def progress(self, running: Sequence[tuple[Task, int]], age_s: float, paused: str | None) -> CopyProgress:
        """The whole copy's progress; a running part counts for what it carried, at most for its estimate."""
        loads = [(task.part, carried) for task, carried in running if isinstance(task, Load)]
        done = self._bytes_done + sum(min(carried, part.estimated_bytes) for part, carried in loads)
        rate = (done - self._bytes_before) / age_s if age_s > 0 else 0.0
        eta_s = (self._bytes_total - done) / rate if rate > 0 else None
        parts = tuple(part for part, _ in loads)
        return CopyProgress(
            self._done, self._parts, self._rows, done, self._bytes_total, rate, eta_s, parts, paused
        )  # fmt: skip
