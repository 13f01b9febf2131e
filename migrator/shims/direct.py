"""The gate for plain psycopg: a transaction that is always on the open side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from contexts.names import Side
from migrator.shims.gate import Gatekeeper, Mode
from migrator.shims.link import Link, SyncLink
from migrator.shims.lockstep import Lockstep

Connection = psycopg.Connection[Any]


class GatedConnections:
    """One connection per side and thread, opened at first use; transactions go to the side that is open.

    :param connect: opens a connection per side; its settings (``autocommit``, ``isolation_level``, ``row_factory``)
        are the application's own.
    :param wait_limit_s: how long a new transaction waits while a switch runs.
    :param first: the side that a new process asks first; the other one works too, with one more round trip.
    """

    def __init__(
        self,
        context: str,
        connect: Mapping[Side, Callable[[], Connection]],
        *,
        wait_limit_s: float = 10.0,
        first: Side = Side.SHARED,
    ) -> None:
        self._gate = Gatekeeper(context, wait_limit_s, first)
        self._connect = connect
        self._lockstep = Lockstep(context, self._shipping, wait_limit_s=wait_limit_s)
        self._local = threading.local()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction on the open side; waits at the gate while a switch runs. Inside another one: a savepoint.

        :raises GateClosed: the wait limit is over.
        """
        if (outer := getattr(self._local, "conn", None)) is not None:
            with outer.transaction():
                yield outer
            return
        self.begin()
        side, mode, transaction = self._local.begun
        self._local.begun = None
        conn, prepared = self._connection(side), None
        try:
            with transaction:
                with self._inside(conn):
                    yield conn
                prepared = self._lockstep.ship(SyncLink(conn)) if mode is Mode.LOCKSTEP else None
        except BaseException as error:
            if prepared:
                prepared.undo(error)
            raise
        if prepared:
            prepared.settle()

    @contextmanager
    def _inside(self, conn: Connection) -> Iterator[None]:
        self._local.conn = conn
        try:
            yield
        finally:
            self._local.conn = None

    def begin(self) -> Side:
        """Begin the thread's next :meth:`transaction` already now, to learn which side it is on.

        :raises GateClosed: the wait limit is over.
        """
        if getattr(self._local, "begun", None) is None:
            self._local.begun = self._enter()
        side: Side = self._local.begun[0]
        return side

    def close(self) -> None:
        """Close the calling thread's connections; a transaction that was only begun is rolled back."""
        self._local.begun = None
        for conn in self._mine().values():
            conn.close()
        self._mine().clear()
        self._lockstep.close()

    def _enter(self) -> tuple[Side, Mode, ExitStack]:
        for side in self._gate.attempts():
            known = self._mine().get(side)
            was_open = known is not None and not known.closed
            try:
                if (entered := self._try(side)) is not None:
                    return side, *entered
            except psycopg.OperationalError:
                # The server went away while the connection was idle; nothing was begun yet, so a new one may try.
                if not (was_open and self._mine()[side].closed):
                    raise
        raise AssertionError("attempts end with an error only")

    def _try(self, side: Side) -> tuple[Mode, ExitStack] | None:
        conn = self._connection(side)
        if conn.info.transaction_status is not TransactionStatus.IDLE:
            raise psycopg.ProgrammingError(
                "the connection was used outside of transaction(): commit or roll back there"
            )
        with ExitStack() as stack:
            stack.enter_context(conn.transaction())
            if mode := self._gate.enter(SyncLink(conn), side):
                return mode, stack.pop_all()
            raise psycopg.Rollback
        return None

    def _shipping(self) -> Link:
        conn = self._connect[Side.SERVICE]()
        conn.autocommit = True
        return SyncLink(conn)

    def _connection(self, side: Side) -> Connection:
        mine = self._mine()
        if side not in mine or mine[side].closed:
            mine[side] = self._connect[side]()
        return mine[side]

    def _mine(self) -> dict[Side, Connection]:
        if not hasattr(self._local, "connections"):
            self._local.connections = {}
        connections: dict[Side, Connection] = self._local.connections
        return connections
