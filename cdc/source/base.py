"""What every source offers the worker, embedded or Kafka."""

from __future__ import annotations

from typing import Protocol

from cdc.events import Event


class Source(Protocol):
    """Committed transactions of the open side in commit order, from a position on."""

    def poll(self, timeout_s: float) -> Event | None:
        """The next event, or None where none came within ``timeout_s`` (0: only what is there already).

        :raises StreamStopped: the stream cannot go on without losing something.
        :raises DatabaseUnreachable: the connection broke; a new source goes on from the stored position.
        """

    def acknowledge(self, end_lsn: int) -> None:
        """Tell the source that everything up to ``end_lsn`` is durable on the closed side.

        Only a value read from, or just committed to, the position row may be passed.
        """

    def request_idle(self) -> None:
        """Ask for an :class:`~cdc.events.Idle` event soon, to learn how far the stream has come."""

    def close(self) -> None:
        """End the stream and free its resources; safe to call twice."""
