"""A connection as the shims use it: some statements in one round trip, and the rows of the last one.

What passes the gate and what ships in lockstep is written once, on top of this: plain psycopg and SQLAlchemy's async
engines differ only here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import psycopg
from psycopg.rows import tuple_row

Rows = list[tuple[Any, ...]]


class Link(Protocol):
    """One connection."""

    @property
    def closed(self) -> bool:
        """Whether it cannot be used any more."""

    def run(self, statements: str, values: Sequence[str] = ()) -> Rows:
        """Run statements in one round trip; returns the rows of the last one.

        :param values: what the ``%s`` of the statements stand for.
        :raises psycopg.Error: the server refused, or went away.
        """

    def close(self) -> None:
        """Close it, which rolls back what is not prepared."""


class SyncLink:
    """Over a connection of psycopg's."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn

    @property
    def closed(self) -> bool:
        return self._conn.closed

    def run(self, statements: str, values: Sequence[str] = ()) -> Rows:
        # Values are merged in the client: several statements in one round trip cannot have parameters.
        cursor = psycopg.ClientCursor(self._conn, row_factory=tuple_row)
        cursor.execute(statements.encode(), values or None)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._conn.close()


class Links:
    """Connections in autocommit that are kept for the next transaction; safe between threads.

    :param first: a statement that each runs once.
    """

    def __init__(self, connect: Callable[[], Link], first: str = "") -> None:
        self._connect = connect
        self._first = first
        self._idle: list[Link] = []
        self._lock = threading.Lock()

    def take(self) -> Link:
        """A connection that nobody else uses."""
        with self._lock:
            while self._idle:
                link = self._idle.pop()
                if not link.closed:
                    return link
        link = self._connect()
        if self._first:
            with closed_on_failure(link):
                link.run(self._first)
        return link

    def give_back(self, link: Link) -> None:
        """Keep it for somebody else."""
        with self._lock:
            self._idle.append(link)

    def close(self) -> None:
        """Close what is kept."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()


@contextmanager
def closed_on_failure(link: Link) -> Iterator[None]:
    """Closes the connection where the block fails, which rolls back what is not prepared."""
    try:
        yield
    except BaseException:
        link.close()
        raise


class Driver:
    """How SQLAlchemy's psycopg dialect is talked to; the async one overrides it."""

    def open(self, _dialect: Any, url: str, parameters: dict[str, Any]) -> Any:
        """A DBAPI connection for SQLAlchemy's pool."""
        return psycopg.connect(url, **parameters)

    def link(self, raw: Any) -> Link:
        """A DBAPI connection as the shims use it."""
        return SyncLink(raw)

    def connect(self, url: str) -> Link:
        """A connection of our own, in autocommit."""
        return SyncLink(psycopg.connect(url, autocommit=True))

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
