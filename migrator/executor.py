"""One code path for doing and for showing: steps speak to an executor, the dry run is another executor.

Reads run in both. Writes run in :class:`Live` and are written down in :class:`Recording`, so a dry run can miss no
statement that the real run makes.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from contexts.databases import Connection, Databases
from contexts.model import Side

Row = tuple[Any, ...]
Statement = sql.SQL | sql.Composed
_ROUND_TRIPS = 5
_IN_TRANSACTION = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
_log = logging.getLogger(__name__)


class Executor(Protocol):
    """Runs the statements of steps, or writes them down."""

    #: Whether nothing is really changed.
    dry: bool

    def read(self, side: Side, statement: Statement, parameters: Sequence[Any] = ()) -> list[Row]:
        """Rows of a query that changes nothing."""

    def write(
        self, side: Side, statement: Statement, parameters: Sequence[Any] = (), *, pretend: Row | None = None
    ) -> list[Row]:
        """Run a statement that changes something; ``pretend`` is the row that a dry run answers with."""

    def transaction(self, side: Side) -> AbstractContextManager[object]:
        """The statements of the block are one transaction."""

    def act(self, side: Side | None, text: str, action: Callable[[], object]) -> None:
        """Do something that is not a single statement; ``text`` is what a dry run shows of it."""

    def connection(self, side: Side) -> Connection:
        """The connection that the statements run on."""

    def settle(self) -> None:
        """Wait for what an interruption cut off; afterwards no statement is under way, and no transaction open."""


class _Connections:
    def __init__(self, databases: Databases, purpose: str, **settings: str) -> None:
        self._databases = databases
        self._purpose = purpose
        self._settings = settings
        self._open: dict[Side, Connection] = {}

    def connection(self, side: Side) -> Connection:
        """The one connection of a side; opened again where it broke."""
        conn = self._open.get(side)
        if conn is None or conn.closed:
            conn = self._open[side] = self._databases[side].connect(self._purpose, autocommit=True, **self._settings)
        return conn

    def read(self, side: Side, statement: Statement, parameters: Sequence[Any] = ()) -> list[Row]:
        """Rows of a query that changes nothing."""
        return self.connection(side).execute(statement, parameters).fetchall()

    def settle(self) -> None:
        """End what an interruption cut off, and wait for it: a COMMIT that was sent may still take effect.

        psycopg does so where it is interrupted while it waits, not between sending and waiting.
        """
        for conn in self._open.values():
            if conn.info.transaction_status is TransactionStatus.ACTIVE:
                conn.cancel_safe()
                while conn.pgconn.get_result() is not None:
                    pass
            if conn.info.transaction_status in _IN_TRANSACTION:
                conn.rollback()

    def close(self) -> None:
        """Close both connections."""
        for conn in self._open.values():
            conn.close()


class Live(_Connections):
    """Does it."""

    dry = False

    def write(
        self, side: Side, statement: Statement, parameters: Sequence[Any] = (), *, pretend: Row | None = None
    ) -> list[Row]:
        """Run the statement and return its rows, if it has any."""
        cursor = self.connection(side).execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

    def transaction(self, side: Side) -> AbstractContextManager[object]:
        """A transaction, or a savepoint inside one."""
        return self.connection(side).transaction()

    def act(self, side: Side | None, text: str, action: Callable[[], object]) -> None:
        """Do it."""
        action()


@dataclass(frozen=True, slots=True)
class Recorded:
    """One thing that a run would do."""

    side: Side | None
    text: str


class Recording(_Connections):
    """Writes down what would be done; its sessions are read-only, so a slip cannot change anything."""

    dry = True

    def __init__(self, databases: Databases, purpose: str) -> None:
        super().__init__(databases, purpose, default_transaction_read_only="on")
        self.recorded: list[Recorded] = []

    def write(
        self, side: Side, statement: Statement, parameters: Sequence[Any] = (), *, pretend: Row | None = None
    ) -> list[Row]:
        """Write the statement down with its parameters in place."""
        cursor = psycopg.ClientCursor(self.connection(side))
        self.recorded.append(Recorded(side, " ".join(cursor.mogrify(statement, parameters).split())))
        return [pretend] if pretend is not None else []

    def predicted_ms(self) -> float:
        """About how long the recorded statements take, by their number and each side's round trip; no lock waits."""
        took = {side: self._round_trip_ms(side) for side in {entry.side for entry in self.recorded} if side}
        return sum(took[entry.side] for entry in self.recorded if entry.side)

    def _round_trip_ms(self, side: Side) -> float:
        times = []
        for _ in range(_ROUND_TRIPS):
            began = time.monotonic()
            self.read(side, sql.SQL("SELECT 1"))
            times.append((time.monotonic() - began) * 1000)
        return statistics.median(times)

    def transaction(self, side: Side) -> AbstractContextManager[object]:
        """Write down where a transaction begins and ends."""
        return self._block(side)

    @contextmanager
    def _block(self, side: Side) -> Iterator[None]:
        self.recorded.append(Recorded(side, "BEGIN"))
        yield
        self.recorded.append(Recorded(side, "COMMIT"))

    def act(self, side: Side | None, text: str, action: Callable[[], object]) -> None:
        """Write the text down."""
        self.recorded.append(Recorded(side, text))


def retry_locks(
    executor: Executor,
    side: Side,
    what: str,
    attempt: Callable[[], None],
    *,
    lock_timeout_ms: int,
    deadline: float,
    on_blocked: Callable[[], None] = lambda: None,
) -> int:
    """Run ``attempt`` in a transaction with a short ``lock_timeout``, again with back-off while it cannot get locks.

    So a lock wait never queues others up behind a long transaction for longer than ``lock_timeout_ms``.

    :param deadline: on the monotonic clock; a further attempt does not begin after it.
    :param on_blocked: run after each attempt that did not get its locks.
    :returns: how many attempts it took.
    :raises psycopg.errors.LockNotAvailable: the deadline has passed.
    """
    pause_s, attempts = 0.05, 0
    while True:
        attempts += 1
        try:
            with executor.transaction(side):
                left_ms = max(1, round((deadline - time.monotonic()) * 1000))
                timeout_ms = lock_timeout_ms if attempts == 1 else min(lock_timeout_ms, left_ms)
                executor.write(side, sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(timeout_ms)))
                attempt()
            return attempts
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            _log.info("%s: no lock within %d ms on the %s side", what, lock_timeout_ms, side)
            if time.monotonic() + pause_s > deadline:
                raise
            on_blocked()
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)
