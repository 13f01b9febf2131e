"""What the initial copy asks and tells: pauses, stop, progress."""

from __future__ import annotations

import dataclasses
from typing import Any

from cdc.copy import CopyProgress
from cdc.worker.signals import Signals


class CopyProgressTask:
    """Connects the copy's questions to the worker's signals."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._last: CopyProgress | None = None

    def should_stop(self) -> bool:
        """Whether the worker is ending."""
        return self._signals.stop.is_set()

    def is_paused(self) -> str | None:
        """Why no new part should start."""
        return self._signals.pause_reason

    def snapshot_imported(self) -> None:
        """The slot's session stays open to the cycle's end: a process that starts again imports once more."""

    def progress(self, progress: CopyProgress) -> None:
        """Take the newest numbers."""
        self._last = progress

    def report(self) -> dict[str, Any]:
        """The newest numbers for the worker's report."""
        return {"copy": dataclasses.asdict(self._last)} if self._last else {}
