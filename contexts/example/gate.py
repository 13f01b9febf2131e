"""How a service reaches the open side of a context: the seam at which a traffic driver takes its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import psycopg
from psycopg.conninfo import make_conninfo

from contexts.databases import Connection


class Gate(Protocol):
    """Gives one service its transactions; each thread of a service has a gate of its own."""

    def transaction(self, context: str) -> AbstractContextManager[Connection]:
        """Begin a transaction where ``context`` is open; leaving commits, an exception rolls back.

        May wait while a switch goes on. An exception at leaving means that the commit failed or was never answered.
        """

    def together(self, one: str, other: str) -> bool:
        """Whether one transaction can write both contexts now."""

    def close(self) -> None:
        """Give the connections back."""


#: Makes a gate for a service's role.
GateMaker = Callable[[str], Gate]


class RouteGate:
    """Asks ``route`` for the URL of the open side at each begin, and keeps one connection per URL."""

    def __init__(self, route: Callable[[str], str], role: str) -> None:
        self._route, self._role = route, role
        self._connections: dict[str, Connection] = {}

    @contextmanager
    def transaction(self, context: str) -> Iterator[Connection]:
        """A transaction on the database that ``route`` names."""
        conn = self._connection(self._route(context))
        with conn.transaction():
            yield conn

    def together(self, one: str, other: str) -> bool:
        """Whether both contexts are at one URL."""
        return self._route(one) == self._route(other)

    def close(self) -> None:
        """Close all connections."""
        for conn in self._connections.values():
            conn.close()
        self._connections.clear()

    def _connection(self, url: str) -> Connection:
        conn = self._connections.get(url)
        if conn is None or conn.closed:
            conn = psycopg.connect(make_conninfo(url, user=self._role), autocommit=True, prepare_threshold=None)
            self._connections[url] = conn
        return conn


def routed(route: Callable[[str], str]) -> GateMaker:
    """Gates that follow ``route(context) -> URL``; the role takes the place of the URL's user."""
    return lambda role: RouteGate(route, role)


def always(url: str) -> GateMaker:
    """Gates that always lead to one database."""
    return routed(lambda _context: url)
