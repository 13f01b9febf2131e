"""The gate as an application passes it, once per transaction and in one round trip.

``LOCK TABLE`` waits while a switch holds the gate and takes no snapshot, so the route that is read after it is the
present one in every isolation level. The lock is held to the end of the transaction: a switch waits for it.
"""

from __future__ import annotations

import enum
import threading
import time
from typing import Any, Protocol

import psycopg

from contexts.errors import CarveoutError
from contexts.model import CONTEXT_NAME, Side

#: How often a missing gate is looked for again: it appears with ``prepare``, long before a switch.
ABSENT_S = 1.0


class GateClosed(CarveoutError):
    """A switch kept the gate closed for longer than the application is willing to wait."""

    transient = True


class Cursor(Protocol):
    """The part of a DBAPI cursor that the gate needs."""

    def execute(self, operation: str) -> Any:
        """Run statements."""

    def nextset(self) -> Any:
        """Go on to the next result."""

    def fetchone(self) -> Any:
        """One row."""


class Passage(enum.Enum):
    """What the gate says to a transaction."""

    #: The transaction is on the open side, and a switch waits for it.
    PASSED = enum.auto()
    #: The other side is open: roll back, and begin again there.
    MOVED = enum.auto()
    #: No migration has been prepared: roll back, and go on without a gate.
    ABSENT = enum.auto()


class Gatekeeper:
    """What one process believes of a context's route; safe between threads."""

    def __init__(self, context: str, wait_limit_s: float = 10.0) -> None:
        if not CONTEXT_NAME.fullmatch(context):
            raise ValueError(f"{context!r} is no context name")
        self.context = context
        #: The side that was open when a transaction last passed.
        self.believed = Side.SHARED
        self._wait_limit_s = wait_limit_s
        self._absent_until = 0.0
        self._lock = threading.Lock()
        # The name is checked above; a DBAPI cannot bind parameters in several statements at once.
        self._statements = (
            f"SET LOCAL lock_timeout = {int(wait_limit_s * 1000)};"  # noqa: S608
            f"LOCK TABLE carveout.gate_{context} IN ACCESS SHARE MODE;"
            "SET LOCAL lock_timeout TO DEFAULT;"
            f"SELECT open_side FROM carveout.route WHERE context = '{context}'"
        )

    def enter(self, cursor: Cursor) -> Passage:
        """Pass the gate at the start of a transaction on the believed side.

        :raises GateClosed: the limit is over; the transaction must be rolled back.
        """
        if time.monotonic() < self._absent_until:
            return Passage.PASSED
        try:
            cursor.execute(self._statements)
        except psycopg.errors.LockNotAvailable as error:
            raise GateClosed(
                f"context {self.context!r}: a switch has kept the gate closed for {self._wait_limit_s:g} s",
                unchanged="nothing was written",
                next_step="try again",
            ) from error
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            self._absent_until = time.monotonic() + ABSENT_S
            return Passage.ABSENT
        for _ in range(3):
            cursor.nextset()
        row = cursor.fetchone()
        open_side = Side(row[0]) if row else Side.SHARED
        with self._lock:
            passed, self.believed = open_side is self.believed, open_side
        return Passage.PASSED if passed else Passage.MOVED
