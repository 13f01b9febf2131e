"""Takes what waits to the sink, in order, and forgets only what the sink has.

The streams of a context follow one another, and each queues on its closed side: what is left of an earlier one, on
whichever side, goes first. So a switch reorders nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from cdc.outbox import queue
from cdc.outbox.queue import Line
from cdc.outbox.sinks import Sink
from cdc.state.position import StreamId
from contexts.databases import Connection
from contexts.killpoints import kill_point
from contexts.model import Side

BATCH = 500
_log = logging.getLogger(__name__)


class Publisher:
    """Publishes one context's events; there may be only one at work.

    :param connections: autocommit sessions of both sides.
    :param should_stop: asked between two batches.
    """

    def __init__(
        self,
        context: str,
        connections: Mapping[Side, Connection],
        sink: Sink,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._context = context
        self._connections = connections
        self._sink = sink
        self._should_stop = should_stop
        self.published = 0

    def run(self) -> int:
        """Publish everything that waits and is not held; how many events.

        :raises CarveoutError: the sink or a side cannot be reached; what was not acknowledged waits as before.
        """
        before = self.published
        behind: set[Line] = set()
        for epoch, side in self._waiting():
            conn, stream = self._connections[side], StreamId(self._context, epoch)
            while not self._should_stop() and self._publish(conn, stream, behind):
                pass
            behind |= queue.lines(conn, stream)
        return self.published - before

    def _waiting(self) -> list[tuple[int, Side]]:
        """The streams of which something waits, in their order; looked at until two looks say the same.

        The sides are asked one after the other, and a switch may come between: then one look sees the later stream's
        events, but not the last ones of the earlier stream, which were there before.
        """
        before = None
        while (found := self._look()) != before:
            before = found
        return found

    def _look(self) -> list[tuple[int, Side]]:
        return sorted(
            (epoch, side) for side, conn in self._connections.items() for epoch in queue.epochs(conn, self._context)
        )

    def _publish(self, conn: Connection, stream: StreamId, behind: set[Line]) -> bool:
        """One batch; False where nothing can be published."""
        events = queue.following(conn, stream, behind, BATCH)
        if not events:
            return False
        outcome = self._sink.publish(events)
        kill_point("outbox.published")
        for number, reason in outcome.refused.items():
            _log.error("outbox: event %s is held: %s", events[number].event_id, reason)
        queue.hold(conn, outcome.refused)
        queue.published(conn, outcome.delivered)
        self.published += len(outcome.delivered)
        return True
