"""Carries the bytes of a COPY from one server to the other, without looking into them.

It works on libpq (``psycopg.pq``) directly: one call per row to receive, one per batch to send. Both sockets are
non-blocking, so a signal is handled at once, whichever server is the slow one. What a server refuses is known when
the part has been sent: libpq keeps an error back until the COPY ends.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from cdc.copy.model import Moved

BATCH_BYTES = 16 * 1024
#: A larger value is sent in slices: libpq copies what it is given into its own buffer first.
_SLICE_BYTES = 1 << 20
#: So often the caller's ``tick`` is called at least, in seconds, also while no data comes.
TICK_S = 0.5


class RelayError(Exception):
    """The two servers do not agree on how many rows were carried."""


def relay(source: PGconn, target: PGconn, copy_out: bytes, copy_in: bytes, tick: Callable[[int], None]) -> Moved:
    """Run ``copy_out`` on ``source`` and feed all of it to ``copy_in`` on ``target``, in their open transactions.

    :param tick: called with the bytes carried so far, for every batch and at least every :data:`TICK_S`.
    :raises psycopg.Error: a server refused or a connection broke; both transactions must be rolled back.
    :raises RelayError: the servers count different numbers of rows.
    """
    _begin(target, copy_in, ExecStatus.COPY_IN)
    _begin(source, copy_out, ExecStatus.COPY_OUT)
    return _Relay(source, target, tick).run()


class _Relay:
    def __init__(self, source: PGconn, target: PGconn, tick: Callable[[int], None]) -> None:
        self._source, self._target, self._tick = source, target, tick
        self._carried = 0

    def run(self) -> Moved:
        for batch in self._batches():
            self._send(batch)
            self._carried += len(batch)
            self._tick(self._carried)
        read = _result(self._source)
        while self._target.put_copy_end() == 0:
            self._drain()
        self._flush()
        written = _result(self._target)
        if read != written:
            raise RelayError(f"{read} rows were read and {written} written")
        return Moved(written, self._carried)

    def _batches(self) -> Iterator[bytes]:
        """The rows of the COPY, joined to batches of about :data:`BATCH_BYTES`."""
        receive, rows, size = self._source.get_copy_data, [], 0
        while True:
            length, row = receive(1)
            if length > 0:
                rows.append(row)
                size += length
                if size >= BATCH_BYTES:
                    yield b"".join(rows)
                    rows, size = [], 0
            elif length == 0:
                self._await(self._source, select.POLLIN)
                self._source.consume_input()
            else:
                break
        if rows:
            yield b"".join(rows)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            for start in range(0, len(data), _SLICE_BYTES):
                while self._target.put_copy_data(view[start : start + _SLICE_BYTES]) == 0:
                    self._drain()
                self._flush()
        except psycopg.Error:
            _result(self._target)  # libpq only says that the COPY is over; the server's reason is its result
            raise

    def _flush(self) -> None:
        while self._target.flush():
            self._drain()

    def _drain(self) -> None:
        """Wait until the target takes more; it may be waiting for us to read what it says."""
        if self._await(self._target, select.POLLIN | select.POLLOUT) & ~select.POLLOUT:
            self._target.consume_input()

    def _await(self, conn: PGconn, events: int) -> int:
        """The first of ``events`` that the connection is ready for."""
        poll = select.poll()
        poll.register(conn.socket, events)
        while not (ready := poll.poll(TICK_S * 1000)):
            self._tick(self._carried)
        return ready[0][1]


def _begin(conn: PGconn, query: bytes, expected: ExecStatus) -> None:
    result = conn.exec_(query)
    if result.status != expected:
        raise psycopg.errors.error_from_result(result, encoding="utf-8")


def _result(conn: PGconn) -> int:
    """The number of rows of the COPY that ended; raises the server's error, with the connection ready for more."""
    rows: int | None = None
    error: psycopg.Error | None = None
    while result := conn.get_result():
        if result.status == ExecStatus.COMMAND_OK:
            rows = result.command_tuples
        else:
            error = error or psycopg.errors.error_from_result(result, encoding="utf-8")
            if result.status != ExecStatus.FATAL_ERROR:
                break  # still in COPY: there is nothing more to read
    if error or rows is None:
        raise error or psycopg.OperationalError("a server ended a COPY without a result")
    return rows
