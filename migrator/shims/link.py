"""A connection as the shims use it: some statements in one round trip, and the rows of the last one.

What passes the gate and what ships in lockstep is written once, on top of this: plain psycopg and SQLAlchemy's async
engines differ only here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg import IsolationLevel
from psycopg.abc import PQGen
from psycopg.generators import execute
from psycopg.pq import Escaping, ExecStatus, TransactionStatus

Rows = list[tuple[Any, ...]]
AnyConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]
C = TypeVar("C", bound=AnyConnection)


class Link(Protocol):
    """One connection. What is run on it is in autocommit where no transaction was begun."""

    @property
    def closed(self) -> bool:
        """Whether it cannot be used any more."""

    @property
    def idle(self) -> bool:
        """Whether no transaction is under way."""

    @property
    def prepares(self) -> bool:
        """Whether the application lets its driver prepare statements on it."""

    @property
    def known(self) -> dict[str, Any]:
        """What is remembered of the connection for as long as it lives."""

    def begin(self, statements: str) -> Rows:
        """Begin a transaction as the connection's settings say, unless one is under way, and :meth:`run` in it."""

    def run(self, statements: str, values: Sequence[str] = ()) -> Rows:
        """Run statements in one round trip; returns the rows of the last one, as text.

        :param values: what the ``%s`` of the statements stand for.
        :raises psycopg.Error: the server refused, or went away.
        """

    def close(self) -> None:
        """Close it, which rolls back what is not prepared."""


_known: WeakKeyDictionary[AnyConnection, dict[str, Any]] = WeakKeyDictionary()


class PsycopgLink(Generic[C]):
    """What both kinds of psycopg's connections know of themselves."""

    def __init__(self, conn: C) -> None:
        self._conn = conn

    @property
    def closed(self) -> bool:
        return self._conn.closed

    @property
    def idle(self) -> bool:
        return self._conn.pgconn.transaction_status == TransactionStatus.IDLE

    @property
    def prepares(self) -> bool:
        return self._conn.prepare_threshold is not None

    @property
    def known(self) -> dict[str, Any]:
        return _known.setdefault(self._conn, {})


class SyncLink(PsycopgLink[psycopg.Connection[Any]]):
    """Over a connection of psycopg's."""

    def begin(self, statements: str) -> Rows:
        return self.run(begun(self._conn) + statements)

    def run(self, statements: str, values: Sequence[str] = ()) -> Rows:
        with self._conn.lock:
            return self._conn.wait(exchange(self._conn, statements, values))

    def close(self) -> None:
        self._conn.close()


def begun(conn: AnyConnection) -> str:
    """What begins a transaction with the settings of a connection; nothing where one is under way."""
    if conn.pgconn.transaction_status != TransactionStatus.IDLE:
        return ""
    words = ["BEGIN"]
    if conn.isolation_level is not None:
        words.append("ISOLATION LEVEL " + IsolationLevel(conn.isolation_level).name.replace("_", " "))
    if conn.read_only is not None:
        words.append("READ ONLY" if conn.read_only else "READ WRITE")
    if conn.deferrable is not None:
        words.append("DEFERRABLE" if conn.deferrable else "NOT DEFERRABLE")
    return " ".join(words) + ";"


def exchange(conn: AnyConnection, statements: str, values: Sequence[str]) -> PQGen[Rows]:
    """Send statements and fetch their results, for the connection's ``wait``.

    Below the cursor, which would send BEGIN in a round trip of its own and costs as much again as a small statement.
    """
    pgconn, encoding = conn.pgconn, conn.info.encoding
    if values:  # several statements in one round trip cannot have parameters
        escape = Escaping(pgconn).escape_literal
        statements %= tuple(bytes(escape(value.encode(encoding))).decode(encoding) for value in values)
    pgconn.send_query(statements.encode(encoding))
    last = (yield from execute(pgconn))[-1]
    if last.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
        raise psycopg.errors.error_from_result(last, encoding=encoding)
    cells = ([last.get_value(row, column) for column in range(last.nfields)] for row in range(last.ntuples))
    return [tuple(value if value is None else value.decode(encoding) for value in row) for row in cells]


class Links:
    """Connections in autocommit that are kept for the next transaction; safe between threads, and over a fork.

    :param first: a statement that each runs once.
    """

    def __init__(self, connect: Callable[[], Link], first: str = "") -> None:
        self._connect = connect
        self._first = first
        self._idle: list[Link] = []
        self._process = os.getpid()
        self._lock = threading.Lock()

    def take(self) -> Link:
        """A connection that nobody else uses."""
        while (link := self._next()) is not None:
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
        while (link := self._next()) is not None:
            link.close()

    def _next(self) -> Link | None:
        with self._lock:
            if self._process != os.getpid():  # forked: those are the parent's
                self._process, self._idle = os.getpid(), []
            return self._idle.pop() if self._idle else None


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
