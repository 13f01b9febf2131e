"""A replication connection over psycopg's ``pq`` layer: commands, then the two-way copy of a stream.

Messages and rules are those of the manual's chapter "Streaming Replication Protocol". Only the simple query
protocol works here, so every statement is composed text without parameters.
"""

from __future__ import annotations

import contextlib
import logging
import re
import select
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import psycopg
from psycopg import pq, sql

from cdc.lsn import format_lsn, parse_lsn
from cdc.source.wire import EPOCH_US
from contexts.databases import Database
from contexts.errors import AccessDenied, CarveoutError, RefusedError

logger = logging.getLogger(__name__)

OLDEST_MAJOR: Final = 14
#: Sessions that only hold a snapshot or a stream must not be ended by a server-side time limit.
_SETTINGS: Final = {"idle_session_timeout": "0", "client_min_messages": "warning"}
_PUSH_S: Final = 30.0
_STATUS = struct.Struct(">cQQQqB")
_KEEPALIVE = struct.Struct(">QqB")
_DATA_HEADER: Final = 25
_XLOG_DATA, _KEEPALIVE_TAG = b"wk"


class ServerIdentity(NamedTuple):
    """Which server, and which of its histories, a log position belongs to."""

    system_identifier: str
    timeline: int
    #: How far the server has written its log.
    written_lsn: int


class ChangesSkipped(psycopg.OperationalError):
    """The server warned that the stream leaves changes out."""


@dataclass(frozen=True, slots=True)
class Keepalive:
    """The server has sent everything that committed before ``lsn``."""

    lsn: int
    reply_requested: bool


class ReplicationConnection:
    """One walsender session, used by one thread at a time.

    Server errors are raised as psycopg's own; :mod:`cdc.source.failures` gives them names.
    """

    def __init__(self, database: Database, purpose: str) -> None:
        """:raises DatabaseUnreachable: no server answered.
        :raises AccessDenied: the server refused the login.
        :raises RefusedError: the server is too old.
        """
        conninfo = psycopg.conninfo.make_conninfo(database.conninfo(purpose, **_SETTINGS), replication="database")
        self.pg = pq.PGconn.connect(conninfo.encode())
        if self.pg.status != pq.ConnStatus.OK:
            message = self.pg.get_error_message()
            self.pg.finish()
            raise _connection_error(database, message)
        #: The server's limit for our silence in seconds, 0 where it has none; known once the stream has started.
        self.sender_timeout_s = 0.0
        self._skipped: ChangesSkipped | None = None
        self.pg.notice_handler = self._on_notice
        self._socket = self.pg.socket
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._prepare_session(database)

    @property
    def major(self) -> int:
        """The server's major version."""
        return self.pg.server_version // 10_000

    def command(self, statement: sql.Composable) -> list[tuple[str | None, ...]]:
        """Run one statement and return its rows as text.

        :raises psycopg.Error: the server refused it, or the connection broke.
        """
        return _rows(self.pg.exec_(_text(statement)))

    def begin_command(self, statement: sql.Composable) -> None:
        """Send a statement without waiting; :meth:`finish_command` waits for its rows."""
        self.pg.send_query(_text(statement))

    def finish_command(self, timeout_s: float) -> list[tuple[str | None, ...]] | None:
        """The rows of the statement sent, or None where they did not come in time.

        :raises psycopg.Error: the server refused it, or the connection broke.
        """
        deadline = time.monotonic() + timeout_s
        self.pg.consume_input()
        while self.pg.is_busy():
            if (left := deadline - time.monotonic()) <= 0:
                return None
            self._poll.poll(left * 1000)
            self.pg.consume_input()
        rows: list[tuple[str | None, ...]] = []
        while (result := self.pg.get_result()) is not None:
            rows += _rows(result)
        return rows

    def identify(self) -> ServerIdentity:
        """Identity of the server."""
        ((system_identifier, timeline, written, *_),) = self.command(sql.SQL("IDENTIFY_SYSTEM"))
        return ServerIdentity(str(system_identifier), int(timeline or 0), parse_lsn(str(written)))

    def start(self, slot: str, lsn: int, options: Mapping[str, str]) -> None:
        """Begin the stream of a slot at ``lsn``.

        :raises psycopg.Error: the server refused it.
        """
        timeout = self.command(sql.SQL("SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'"))
        self.sender_timeout_s = int(timeout[0][0] or 0) / 1000
        statement = sql.SQL("START_REPLICATION SLOT {} LOGICAL {} ({})").format(
            sql.Identifier(slot),
            sql.SQL(format_lsn(lsn)),
            sql.SQL(", ").join(sql.SQL("{} {}").format(sql.SQL(k), _string(v)) for k, v in options.items()),
        )
        result = self.pg.exec_(_text(statement))
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise psycopg.errors.error_from_result(result)
        self.pg.nonblocking = 1

    def read(self) -> bytes | Keepalive | None:
        """The next payload or keepalive already received, or None where none is complete.

        :raises psycopg.Error: the stream has ended, or the server warned that it leaves changes out.
        """
        # The blocking form would hold the interpreter's lock while it waits.
        length, data = self.pg.get_copy_data(1)
        if self._skipped:
            raise self._skipped
        if length > 0:
            if data[0] == _XLOG_DATA:
                return bytes(data[_DATA_HEADER:])
            return _keepalive(data)
        if length < 0:
            raise self._end()
        return None

    def wait(self, timeout_s: float) -> bool:
        """Wait for input, also of what :meth:`watch` was given; whether the server sent any.

        :raises psycopg.OperationalError: the connection broke.
        """
        ready = self._poll.poll(max(0.0, timeout_s) * 1000)
        if not any(fd == self._socket for fd, _ in ready):
            return False
        self.pg.consume_input()
        return True

    def watch(self, fileno: int) -> None:
        """Let :meth:`wait` also return when ``fileno`` can be read."""
        self._poll.register(fileno, select.POLLIN)

    def send_status(self, lsn: int, *, reply_requested: bool = False) -> None:
        """Tell the server that everything before ``lsn`` is durable here.

        :raises psycopg.OperationalError: the connection broke.
        """
        # Written and flushed are the same: what is only received may be lost with this process.
        now = time.time_ns() // 1000 - EPOCH_US
        status = _STATUS.pack(b"r", lsn, lsn, lsn, now, reply_requested)
        while not self.pg.put_copy_data(status):
            self._push()
        self._push()

    def stop(self, timeout_s: float) -> None:
        """End the stream and let the server free the slot; what still arrives is dropped."""
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(psycopg.Error):
            self.pg.put_copy_end()
            self._push()
            while time.monotonic() < deadline:
                if self.read() is None:
                    self.wait(deadline - time.monotonic())

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self.pg.finish()

    def _prepare_session(self, database: Database) -> None:
        if self.major < OLDEST_MAJOR:
            self.close()
            raise RefusedError(
                f"{database.side} database ({database.shown()}): PostgreSQL {self.major} is too old to stream from",
                unchanged="nothing was changed",
                next_step=f"upgrade the server to PostgreSQL {OLDEST_MAJOR} or later",
            )
        if self.major >= 17:  # an unknown setting would be refused at connect
            self.command(sql.SQL("SET transaction_timeout = 0"))

    def _push(self) -> None:
        """Write out what is buffered. Reads meanwhile: both ends could wait for each other otherwise."""
        writable = select.poll()
        writable.register(self._socket, select.POLLIN | select.POLLOUT)
        deadline = time.monotonic() + _PUSH_S
        while self.pg.flush():
            if time.monotonic() > deadline:
                raise psycopg.OperationalError(f"the server took nothing for {_PUSH_S:g} s")
            for _, event in writable.poll(1000):
                if event & ~select.POLLOUT:
                    self.pg.consume_input()

    def _end(self) -> psycopg.Error:
        result = self.pg.get_result()
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            return psycopg.errors.error_from_result(result)
        return psycopg.OperationalError("the server ended the stream")

    def _on_notice(self, result: pq.abc.PGresult) -> None:
        """Called while messages are read, so a warning takes effect before what was sent after it."""
        # The result is gone after this call: only text may be kept.
        warning = psycopg.errors.error_from_result(result)
        message = str(warning.diag.message_primary)
        logger.warning("the server warned: %s", message)
        # From 18 on a publication that is missing where the slot reads is only warned of.
        if isinstance(warning, psycopg.errors.ObjectNotInPrerequisiteState):
            self._skipped = ChangesSkipped(message)


def _connection_error(database: Database, message: str) -> CarveoutError:
    # A failed login has no error code here, only a text; an ordinary login of the same role may well succeed.
    if re.search("wal ?sender", message, re.IGNORECASE):
        return AccessDenied(
            f"{database.side} database ({database.shown()}): {' '.join(message.split())}",
            unchanged="nothing was changed",
            next_step="give the role the REPLICATION attribute",
        )
    return database.connection_error(psycopg.OperationalError(message))


def _text(statement: sql.Composable) -> bytes:
    return statement.as_bytes(None)


def _string(value: str) -> sql.SQL:
    # The replication grammar has no E'' strings, which psycopg's literals use where there is a backslash.
    return sql.SQL("'" + value.replace("'", "''") + "'")


def _rows(result: pq.abc.PGresult) -> list[tuple[str | None, ...]]:
    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        raise psycopg.errors.error_from_result(result)
    values = [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]
    return [tuple(None if value is None else value.decode() for value in row) for row in values]


def _keepalive(data: memoryview) -> Keepalive:
    if data[0] != _KEEPALIVE_TAG:
        raise psycopg.OperationalError(f"an unknown message of kind {data[0]} in the stream")
    lsn, _time, reply_requested = _KEEPALIVE.unpack_from(data, 1)
    return Keepalive(lsn, bool(reply_requested))
