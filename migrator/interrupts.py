"""Signals that end a command: a driver in the middle of a switch takes it back before it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

#: Ctrl-C, a polite kill, and a lost terminal.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: A signal that comes just before the main thread begins to wait is not looked at before that wait is over.
_LOOK_S = 0.5


def end_as_ctrl_c() -> None:
    """Let every ending signal raise :class:`KeyboardInterrupt`; call it in the main thread."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup: the terminal may go
            signal.signal(number, interrupt)


def join(threads: Iterable[threading.Thread]) -> None:
    """Wait for the threads in the main thread, and miss no signal."""
    for thread in threads:
        while thread.is_alive():
            thread.join(_LOOK_S)


def wait(event: threading.Event) -> None:
    """Wait for the event in the main thread, and miss no signal."""
    while not event.wait(_LOOK_S):
        pass


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold ending signals back until the end of the block: a second Ctrl-C must not leave a side closed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
