"""The gate for plain psycopg: a transaction that is always on the open side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg

from contexts.model import Side
from migrator.shims.gate import Gatekeeper, Passage

Connection = psycopg.Connection[Any]


class GatedConnections:
    """One connection per side and thread, opened at first use; transactions go to the side that is open."""

    def __init__(
        self, context: str, connect: Mapping[Side, Callable[[], Connection]], *, wait_limit_s: float = 10.0
    ) -> None:
        self._gate = Gatekeeper(context, wait_limit_s)
        self._connect = connect
        self._local = threading.local()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction on the open side; waits at the gate while a switch runs.

        :raises GateClosed: the wait limit is over.
        """
        self.begin()
        conn = self._connection(self._local.begun)
        self._local.begun = None
        try:
            yield conn
        except BaseException:
            conn.rollback()
            raise
        conn.commit()

    def begin(self) -> Side:
        """Begin the thread's next :meth:`transaction` already now, to learn which side it is on.

        :raises GateClosed: the wait limit is over.
        """
        if getattr(self._local, "begun", None) is None:
            self._local.begun = self._enter()
        side: Side = self._local.begun
        return side

    def close(self) -> None:
        """Close the calling thread's connections."""
        for conn in self._mine().values():
            conn.close()
        self._mine().clear()

    def _enter(self) -> Side:
        while True:
            side = self._gate.believed
            conn = self._connection(side)
            try:
                passage = self._gate.enter(conn.cursor())
            except BaseException:
                conn.rollback()
                raise
            if passage is Passage.PASSED:
                return side
            conn.rollback()
            if passage is Passage.ABSENT:
                return side

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
