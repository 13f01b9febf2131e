"""Signals that end a command: a driver in the middle of a switch takes it back before it ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Ctrl-C, a polite kill, and a lost terminal.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_as_ctrl_c() -> None:
    """Let every ending signal raise :class:`KeyboardInterrupt`; call it in the main thread."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup: the terminal may go
            signal.signal(number, interrupt)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold ending signals back until the end of the block: a second Ctrl-C must not leave a side closed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
