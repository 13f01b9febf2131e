"""The gate as an application passes it, once per transaction and in one round trip.

``LOCK TABLE`` waits while a switch holds the gate and takes no snapshot, so the route that is read after it is the
present one in every isolation level. The lock is held to the end of the transaction: a switch waits for it.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import psycopg

from contexts.errors import CarveoutError
from contexts.model import CONTEXT_NAME, Side

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


class Cursor(Protocol):
    """The part of a DBAPI cursor that the gate needs."""

    def execute(self, operation: str) -> Any:
        """Run statements."""

    def nextset(self) -> Any:
        """Go on to the next result."""

    def fetchone(self) -> Any:
        """One row."""


class Gatekeeper:
    """What one process believes of a context's route; safe between threads."""

    def __init__(self, context: str, wait_limit_s: float = 10.0, first: Side = Side.SHARED) -> None:
        if not CONTEXT_NAME.fullmatch(context):
            raise ValueError(f"{context!r} is no context name")
        self.context = context
        #: The side that was open when a transaction last asked.
        self.believed = first
        self._wait_limit_s = wait_limit_s
        self._absent_until = 0.0
        # The name is checked above; a DBAPI cannot bind parameters in several statements at once.
        self._statements = (
            f"SET LOCAL lock_timeout = {int(wait_limit_s * 1000)};"  # noqa: S608
            f"LOCK TABLE carveout.gate_{context} IN ACCESS SHARE MODE;"
            "SET LOCAL lock_timeout TO DEFAULT;"
            f"SET LOCAL carveout.gated_{context} = 'on';"
            f"SELECT open_side, mode, CASE WHEN mode = 'lockstep' THEN carveout.lockstep_begin('{context}')::text END"
            f" FROM carveout.route WHERE context = '{context}'"
        )

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
                    raise self._closed("no side has let the transaction in")
                pause(PAUSE_S)

    def enter(self, cursor: Cursor, side: Side) -> Mode | None:
        """Pass the gate as the first thing that a transaction does.

        :param side: the side that the cursor's connection leads to; :attr:`believed` may have changed since.
        :returns: how the transaction is written, or None: roll back, and begin again on the next side of
            :meth:`attempts`.
        :raises GateClosed: the limit is over; the transaction must be rolled back.
        """
        if side is Side.SHARED and time.monotonic() < self._absent_until:
            return Mode.SINGLE
        try:
            cursor.execute(self._statements)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
            raise self._closed("a switch has kept the gate closed") from error
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            # No migration is prepared, or it was aborted: then the shared side has all writes, whatever we believed.
            if side is Side.SHARED:
                self._absent_until = time.monotonic() + ABSENT_S
            self.believed = Side.SHARED
            return None
        for _ in range(4):
            cursor.nextset()
        row = cursor.fetchone()
        self.believed = Side(row[0]) if row else Side.SHARED
        if self.believed is not side:
            return None
        return Mode(row[1]) if row else Mode.SINGLE

    def _closed(self, what: str) -> GateClosed:
        return GateClosed(
            f"context {self.context!r}: {what} for {self._wait_limit_s:g} s, or a statement_timeout was shorter",
            unchanged="nothing was written",
            next_step=f"try again; where it stays so: carveout doctor {self.context}",
        )
