"""What a switch asks of everything that can hold and lead an application's traffic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from contexts.errors import CarveoutError
from contexts.model import Side


class TrafficBusy(CarveoutError):
    """Transactions in flight did not end in time; everything may go on."""

    transient = True

    def __init__(self, message: str, pids: Sequence[int] = ()) -> None:
        super().__init__(message)
        #: The server processes of those transactions, on the side that is open.
        self.pids = tuple(pids)


class TrafficBroken(CarveoutError):
    """Something that holds or leads traffic did not do its part."""


class Driver(Protocol):
    """One way to hold and lead traffic. Every verb may be run again, also by another process after this one died."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def check(self, from_side: Side, to_side: Side) -> Iterable[str]:
        """Why it could not do its part; asked while nobody waits."""

    def ready(self) -> None:
        """Open what :meth:`hold` needs, while nobody waits."""

    def hold(self, deadline: float) -> None:
        """Let new transactions wait and those in flight end, by ``deadline`` on the monotonic clock.

        :raises TrafficBusy: some did not end; the caller releases.
        :raises TrafficBroken: it cannot.
        """

    def repoint(self, side: Side, deadline: float) -> None:
        """Lead what comes from now on to ``side``.

        :raises TrafficBroken: it did not by the deadline.
        """

    def release(self, side: Side) -> None:
        """Let go what waits; it is led to ``side``. Does nothing where nothing waits.

        :raises TrafficBroken: it cannot be told.
        """

    def close(self) -> None:
        """Give its sessions back."""
