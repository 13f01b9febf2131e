"""Waiting for what notifies nobody: poll with a deadline, never for a fixed time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PATIENCE_S = 150.0
_never = threading.Event()


def wait_until(
    condition: Callable[[], bool], describe: Callable[[], str] = lambda: "", patience_s: float = PATIENCE_S
) -> None:
    """Poll until the condition holds; fails with the description after ``patience_s`` seconds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, describe() or "the condition did not come true in time"
        _never.wait(0.02)
