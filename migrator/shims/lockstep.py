"""Lockstep as an application does it: ship before the commit, settle after it.

The shared transaction's commit is the decision. Before it, what it wrote is on the service side and prepared there;
after it, that is committed. Whoever dies in between is cleaned up after, by the worker or ``carveout doctor``.
The protocol in SQL is in docs/howto/lockstep.md: another language needs no more than this module does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from contexts.errors import CarveoutError
from contexts.killpoints import kill_point

_PAUSE_S = 0.02
_ROUND_TRIP_CHARS = 1_000_000
_log = logging.getLogger(__name__)
Connection = psycopg.Connection[Any]


class LockstepRefused(CarveoutError):
    """The service side did not take the rows, so the transaction is refused: it is on neither side."""

    transient = True


@dataclass(frozen=True)
class Prepared:
    """A transaction that is prepared on the service side."""

    gid: str
    connection: Connection


class Lockstep:
    """Carries transactions of one context to the service side; safe between threads.

    :param connect: opens a connection to the service side; they are kept for later transactions.
    :param wait_limit_s: how long a transaction waits for the service side: for locks there, and while lockstep begins.
    """

    def __init__(self, context: str, connect: Callable[[], Connection], *, wait_limit_s: float = 10.0) -> None:
        self._context = context
        self._connect = connect
        self._wait_limit_s = wait_limit_s
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._begin = f"BEGIN; SET LOCAL lock_timeout = {int(wait_limit_s * 1000)}"
        self._apply = f"SELECT carveout.lockstep_apply_{context}(%s, %s)"
        # Deferred constraint triggers fire now, so that what they write is collected too.
        self._collect = f"SET CONSTRAINTS ALL IMMEDIATE; SELECT gid, payload FROM carveout.lockstep_collect_{context}()"  # noqa: S608

    def ship(self, shared: Connection) -> Prepared | None:
        """Write what the open transaction of ``shared`` wrote to the service side, and prepare it there.

        :returns: None where it wrote nothing.
        :raises LockstepRefused: the service side cannot be reached, or is not ready within the limit.
        :raises psycopg.Error: either server refused; the transaction must be rolled back.
        """
        cursor = shared.cursor(row_factory=tuple_row)
        cursor.execute(self._collect)
        cursor.nextset()
        parts = cursor.fetchall()
        kill_point("shim.collected")
        if not parts:
            return None
        deadline = time.monotonic() + self._wait_limit_s
        while True:
            try:
                return self._prepare(parts[0][0], [payload for _, payload in parts])
            except psycopg.errors.ObjectNotInPrerequisiteState as error:
                # Lockstep was entered a moment ago and the stream has not brought everything from before it.
                if time.monotonic() > deadline:
                    raise self._refused(error) from error
                time.sleep(_PAUSE_S)
            except psycopg.OperationalError as error:
                if error.sqlstate is not None:  # the server's own word: a deadlock, a lock that was not given in time
                    raise
                raise self._refused(error) from error

    def settle(self, prepared: Prepared) -> None:
        """The shared side has committed: commit the service side. Where that fails it is only later, not undone."""
        kill_point("shim.decided")
        try:
            prepared.connection.execute(f"COMMIT PREPARED '{prepared.gid}'")
        except psycopg.errors.UndefinedObject:  # the worker was faster
            pass
        except psycopg.Error as error:
            _log.warning("context %s: %s is committed by the worker: %s", self._context, prepared.gid, error)
            prepared.connection.close()
            return
        self._give_back(prepared.connection)
        kill_point("shim.settled")

    def undo(self, prepared: Prepared, error: BaseException) -> None:
        """The commit on the shared side failed: roll back, where the server said so; else the worker finds out."""
        refused = isinstance(error, psycopg.Error) and error.sqlstate is not None
        if not refused or isinstance(error, psycopg.errors.AdminShutdown | psycopg.errors.CrashShutdown):
            prepared.connection.close()
            return
        try:
            prepared.connection.execute(f"ROLLBACK PREPARED '{prepared.gid}'")
            self._give_back(prepared.connection)
        except psycopg.Error:
            prepared.connection.close()

    def close(self) -> None:
        """Close the idle connections to the service side."""
        with self._lock:
            for conn in self._idle:
                conn.close()
            self._idle.clear()

    def _prepare(self, gid: str, payloads: list[str]) -> Prepared:
        with self._service() as conn:
            cursor = psycopg.ClientCursor(conn)  # several statements in one round trip
            begin = f"{self._begin}; "
            for batch in _batches(payloads):
                statements = begin + "; ".join([self._apply] * len(batch))
                cursor.execute(statements, [value for payload in batch for value in (gid, payload)])
                begin = ""
            kill_point("shim.shipped")
            cursor.execute(f"PREPARE TRANSACTION '{gid}'")
            kill_point("shim.prepared")
            return Prepared(gid, conn)

    @contextmanager
    def _service(self) -> Iterator[Connection]:
        """A connection; closed where the block fails, which rolls back what was not prepared."""
        conn = self._take()
        try:
            yield conn
        except BaseException:
            conn.close()
            raise

    def _take(self) -> Connection:
        with self._lock:
            while self._idle:
                conn = self._idle.pop()
                if not conn.closed:
                    return conn
        conn = self._connect()
        conn.autocommit = True
        conn.execute("SELECT carveout.lockstep_session()")
        return conn

    def _give_back(self, conn: Connection) -> None:
        with self._lock:
            self._idle.append(conn)

    def _refused(self, error: psycopg.Error) -> LockstepRefused:
        return LockstepRefused(
            f"context {self._context!r} is in lockstep and the service side did not take the write: {error}",
            unchanged="nothing was written on either side",
            next_step=f"try again; where it stays so: carveout dual-write {self._context} off",
        )


def _batches(payloads: list[str]) -> Iterator[list[str]]:
    """Payloads that go in one round trip: a few small ones, or one that is large."""
    batch: list[str] = []
    for payload in payloads:
        if batch and sum(map(len, batch)) + len(payload) > _ROUND_TRIP_CHARS:
            yield batch
            batch = []
        batch.append(payload)
    yield batch
