"""The admin console of a PgBouncer: plain commands, each with a deadline.

The console speaks the simple query protocol only, and a command may never be answered: PAUSE waits for its clients'
transactions. So answers are waited for here, not in the driver.
"""

from __future__ import annotations

import math
import re
import select
import time
from typing import Any

import psycopg
from psycopg import conninfo, pq

from migrator.traffic.driver import TrafficBroken

#: How long the console may take for what needs no client's help.
ANSWER_S = 2.0
OLDEST = (1, 18)


class ConsoleTimeout(TrafficBroken):
    """A command was not answered in time; the session is of no more use."""


class Console:
    """One session of the console; opened at its first command, and again where it broke.

    :param name: what messages call the PgBouncer.
    :param url: libpq URL; never shown, it may hold a password.
    """

    def __init__(self, name: str, url: str) -> None:
        self._name, self._url = name, url
        self._conn: psycopg.Connection[Any] | None = None

    def run(self, command: str, deadline: float | None = None) -> list[dict[str, str | None]]:
        """Run a command and return its rows by column name.

        :raises TrafficBroken: it was refused, the session broke, or the deadline (default: ``ANSWER_S``) has passed.
        """
        self.start(command)
        return self.finish(deadline if deadline is not None else time.monotonic() + ANSWER_S)

    def start(self, command: str) -> None:
        """Send a command; :meth:`finish` has the answer."""
        try:
            pgconn = self._session().pgconn
            pgconn.send_query(command.encode())
            pgconn.flush()
        except psycopg.Error as error:
            raise self._broken(error) from error

    def finish(self, deadline: float) -> list[dict[str, str | None]]:
        """Wait for the answer to :meth:`start`."""
        assert self._conn is not None
        pgconn, rows = self._conn.pgconn, []
        try:
            while (result := _next_result(pgconn, deadline)) is not None:
                rows += _rows(result)
        except TimeoutError:
            self.close()
            raise ConsoleTimeout(f"PgBouncer {self._name} has not answered in time") from None
        except psycopg.Error as error:
            raise self._broken(error) from error
        return rows

    def close(self) -> None:
        """End the session."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def version(self) -> tuple[int, ...]:
        """The version, as (1, 18, 0)."""
        shown = self.run("SHOW VERSION")[0]["version"] or ""
        return tuple(int(part) for part in re.findall(r"\d+", shown)[:3])

    def databases(self, deadline: float | None = None) -> dict[str, dict[str, str | None]]:
        """The rows of SHOW DATABASES by entry."""
        return {str(row["name"]): row for row in self.run("SHOW DATABASES", deadline)}

    def _session(self) -> psycopg.Connection[Any]:
        if self._conn is None or self._conn.closed:
            given: dict[str, Any] = {"dbname": "pgbouncer", "application_name": "carveout", "connect_timeout": 2}
            url = conninfo.make_conninfo("", **{**given, **conninfo.conninfo_to_dict(self._url)})
            self._conn = psycopg.connect(url, autocommit=True)
        return self._conn

    def _broken(self, error: psycopg.Error) -> TrafficBroken:
        self.close()
        return TrafficBroken(f"PgBouncer {self._name}: {' '.join(str(error).split())}")


def _next_result(pgconn: pq.abc.PGconn, deadline: float) -> pq.abc.PGresult | None:
    while pgconn.is_busy():
        left = deadline - time.monotonic()
        if left <= 0 or not _readable(pgconn.socket, left):
            raise TimeoutError
        pgconn.consume_input()
    return pgconn.get_result()


def _readable(socket: int, wait_s: float) -> bool:
    answers = select.poll()  # select() itself takes no descriptor above 1023
    answers.register(socket, select.POLLIN)
    return bool(answers.poll(math.ceil(wait_s * 1000)))


def _rows(result: pq.abc.PGresult) -> list[dict[str, str | None]]:
    if result.status == pq.ExecStatus.FATAL_ERROR:
        raise psycopg.OperationalError(result.error_message.decode(errors="replace").strip())
    names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
    return [
        {name: _text(result.get_value(row, column)) for column, name in enumerate(names)}
        for row in range(result.ntuples)
    ]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
