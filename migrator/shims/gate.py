"""The gate as an application passes it, once per transaction and in one round trip.

``LOCK TABLE`` waits while a switch holds the gate and takes no snapshot, so the route that is read after it is the
present one in every isolation level. The lock is held to the end of the transaction: a switch waits for it.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psycopg

from contexts.errors import CarveoutError
from contexts.names import CONTEXT_NAME, Side
from migrator.shims.link import Link, Rows

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


def statements(contexts: Sequence[str], wait_limit_s: float) -> str:
    """What passes the gates of some contexts, in one round trip; :func:`routes` reads its rows.

    The locks come before the one statement that takes a snapshot. That one also puts ``lock_timeout`` back (NULL is the
    session's own value) and says that the transaction has passed, which the census asks for: both also without a route.
    """
    for context in contexts:
        if not CONTEXT_NAME.fullmatch(context):
            raise ValueError(f"{context!r} is no context name")
    gates = ", ".join(f"carveout.gate_{context}" for context in contexts)
    # A DBAPI cannot bind parameters in several statements at once; the names are checked above.
    names = ", ".join(f"'{context}'" for context in contexts)
    gated = ", ".join(f"set_config('carveout.gated_{context}', 'on', true)" for context in contexts)
    return (
        f"SET LOCAL lock_timeout = {int(wait_limit_s * 1000)};"  # noqa: S608
        f"LOCK TABLE {gates} IN ACCESS SHARE MODE;"
        "SELECT r.context, r.open_side, r.mode,"
        " CASE WHEN r.mode = 'lockstep' THEN carveout.lockstep_begin(r.context)::text END"
        f", set_config('lock_timeout', NULL, true), {gated}"
        f" FROM (VALUES (1)) v LEFT JOIN carveout.route r ON r.context IN ({names})"
    )


def routes(rows: Rows) -> dict[str, Route]:
    """The routes that :func:`statements` read; a context without one has all its writes on the shared side."""
    return {row[0]: Route(Side(row[1]), Mode(row[2])) for row in rows if row[0]}


class Gatekeeper:
    """What one process believes of a context's route; safe between threads."""

    def __init__(self, context: str, wait_limit_s: float = 10.0, first: Side = Side.SHARED) -> None:
        self.context = context
        #: The side that was open when a transaction last asked.
        self.believed = first
        self._wait_limit_s = wait_limit_s
        self._absent_until = 0.0
        self._statements = statements([context], wait_limit_s)

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

    def enter(self, link: Link, side: Side) -> Mode | None:
        """Pass the gate as the first thing that a transaction does.

        :param side: the side that the connection leads to; :attr:`believed` may have changed since.
        :returns: how the transaction is written, or None: roll back, and begin again on the next side of
            :meth:`attempts`.
        :raises GateClosed: the limit is over; the transaction must be rolled back.
        """
        if side is Side.SHARED and time.monotonic() < self._absent_until:
            return Mode.SINGLE
        try:
            rows = link.begin(self._statements)
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
