"""The gate as an application passes it, once per transaction and in one round trip.

``LOCK TABLE`` waits while a switch holds the gate and takes no snapshot, so the route that is read after it is the
present one in every isolation level. The lock is held to the end of the transaction: a switch waits for it.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg

from contexts.errors import CarveoutError
from contexts.names import Side
from migrator.shims.link import Link, Rows
from migrator.shims.question import Question

#: How often a missing gate is looked for again: it appears with ``prepare``, long before a switch.
ABSENT_S = 1.0
#: So often a transaction asks the other side at once; where both sides still send it away it begins to pause.
HOPS = 3
PAUSE_S = 0.05


#: How long a share of reads is believed.
FRESH_S = 0.5


class GateClosed(CarveoutError):
    """A switch kept the gate closed for longer than the application is willing to wait."""

    transient = True


class Mode(enum.StrEnum):
    """How a context is written (``carveout.route.mode``)."""

    SINGLE = "single"
    #: As ``single``; transactions that did not pass the gate are noted.
    OBSERVE = "observe"
    #: Both sides, in one transaction.
    LOCKSTEP = "lockstep"


@dataclass(frozen=True)
class Route:
    """Where a context's writes go, as a transaction that has passed the gate was told."""

    open_side: Side = Side.SHARED
    mode: Mode = Mode.SINGLE


def routes(rows: Rows) -> dict[str, Route]:
    """The routes in the answer to a question; a context without one has all its writes on the shared side."""
    return {row[0]: Route(Side(row[1]), Mode(row[2])) for row in rows if row[0]}


class Gatekeeper:
    """What one process believes of a context's route; safe between threads."""

    def __init__(self, context: str, wait_limit_s: float = 10.0, first: Side = Side.SHARED) -> None:
        self.context = context
        #: The side that was open when a transaction last asked.
        self.believed = first
        self._wait_limit_s = wait_limit_s
        self._absent_until = 0.0
        self._question = Question([context], wait_limit_s)

    def attempts(self, pause: Callable[[float], object] = time.sleep) -> Iterator[Side]:
        """The side to begin on, again after every :meth:`enter` that did not pass.

        :param pause: waits for some seconds; an event loop has its own.
        :raises GateClosed: the sides sent the transaction to each other until the limit was over.
        """
        deadline, hops = time.monotonic() + self._wait_limit_s, 0
        while True:
            yield self.believed
            hops += 1
            if hops > HOPS:  # a switch that was left half done, until ``resume``
                if time.monotonic() > deadline:
                    raise closed(self.context, self._wait_limit_s, "no side has let the transaction in")
                pause(PAUSE_S)

    def idle(self) -> Mode | None:
        """How a transaction on the shared side is written without asking: no gate was there a moment ago."""
        return Mode.SINGLE if time.monotonic() < self._absent_until else None

    def enter(self, link: Link, side: Side) -> Mode | None:
        """Pass the gate as the first thing that a transaction does.

        :param side: the side that the connection leads to; :attr:`believed` may have changed since.
        :returns: how the transaction is written, or None: roll back, and begin again on the next side of
            :meth:`attempts`.
        :raises GateClosed: the limit is over; the transaction must be rolled back.
        """
        if side is Side.SHARED and (idle := self.idle()):
            return idle
        try:
            rows = self._question.ask(link)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
            raise closed(self.context, self._wait_limit_s, "a switch has kept the gate closed") from error
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            # No migration is prepared, or it was aborted: then the shared side has all writes, whatever we believed.
            if side is Side.SHARED:
                self._absent_until = time.monotonic() + ABSENT_S
            self.believed = Side.SHARED
            return None
        route = routes(rows).get(self.context, Route())
        self.believed = route.open_side
        return route.mode if route.open_side is side else None


def closed(context: str, wait_limit_s: float, what: str) -> GateClosed:
    """The error of a transaction that was not let in."""
    return GateClosed(
        f"context {context!r}: {what} for {wait_limit_s:g} s, or a statement_timeout was shorter",
        unchanged="nothing was written",
        next_step=f"try again; where it stays so: carveout doctor {context}",
    )
