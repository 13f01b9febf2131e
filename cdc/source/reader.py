"""The thread that receives: reads, assembles, hands over, and tells the server what is durable.

It never waits for the one who applies without answering the server in time: a full queue stops the reading, not
the status messages.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg

from cdc.events import Event, Idle, Transaction
from cdc.source.assembler import Assembler
from cdc.source.buffer import RECORD_OVERHEAD
from cdc.source.connection import Keepalive, ReplicationConnection
from cdc.source.handover import Handover
from contexts.errors import StreamStopped

#: What an event weighs beside its records.
_EVENT_BYTES: Final = 1_000
#: A new acknowledgement is sent after this time, an unchanged one after the status interval.
_ACKNOWLEDGE_S: Final = 1.0
#: A silent server is given up after this time, or one and a half times its own limit, as receivers of
#: PostgreSQL do (``wal_receiver_timeout``).
_SILENCE_S: Final = 60.0
_STOP_S: Final = 3.0


class Silence(psycopg.OperationalError):
    """The server has not answered for too long."""


def _closed() -> StreamStopped:
    return StreamStopped(
        "the stream was closed while a transaction was being received",
        unchanged="nothing of the transaction was applied, and the slot was not acknowledged",
        next_step="start the worker again: the server sends it from its first change",
    )


class Reader:
    """Receives one started stream until :meth:`stop`.

    :param start_lsn: the stored position, which the stream was started at.
    :param named: turns an error of psycopg into one of ours.
    """

    def __init__(
        self,
        connection: ReplicationConnection,
        assembler: Assembler,
        handover: Handover,
        start_lsn: int,
        status_interval_s: float,
        named: Callable[[psycopg.Error], Exception],
    ) -> None:
        self._connection, self._assembler, self._handover, self._named = connection, assembler, handover, named
        self._acknowledged = self._sent_lsn = start_lsn
        self._idle_asked = self._idle_due = self._stopping = False
        limit_s = connection.sender_timeout_s
        self._interval_s = min(status_interval_s, limit_s / 3 or status_interval_s)
        self._silence_s = max(_SILENCE_S, limit_s * 1.5)
        self._sent_at = self._heard_at = time.monotonic()
        self._bell, self._bell_rope = socket.socketpair()
        self._bell.setblocking(False)
        self._bell_rope.setblocking(False)
        connection.watch(self._bell.fileno())
        assembler.pace = self._pace
        self._thread = threading.Thread(target=self._run, name="carveout-stream", daemon=True)
        self._thread.start()

    def acknowledge(self, lsn: int) -> None:
        """Everything before ``lsn`` is durable; told to the server within a second or so."""
        told, self._acknowledged = self._acknowledged == self._sent_lsn, max(self._acknowledged, lsn)
        if told:
            self._ring()  # the thread may be waiting for a time that was set before

    def request_idle(self) -> None:
        """Ask the server for a keepalive now, and hand it over whatever it says."""
        self._idle_asked = True
        self._ring()

    def stop(self) -> None:
        """End the stream, the connection and the thread; safe to call twice."""
        self._stopping = True
        self._handover.close()
        self._assembler.fail(_closed())
        self._ring()
        self._thread.join()
        self._assembler.fail(_closed())  # of what began meanwhile
        self._bell.close()
        self._bell_rope.close()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # full: it has been rung; closed: nobody listens any more
            self._bell_rope.send(b"\0")

    def _run(self) -> None:
        try:
            self._send_status()
            while not self._stopping:
                self._receive_all()
                self._tend()
            self._send_status()
            self._connection.stop(_STOP_S)
        except psycopg.Error as error:
            self._fail(self._named(error))
        except BaseException as error:
            self._fail(error)
        finally:
            self._connection.close()

    def _fail(self, error: BaseException) -> None:
        self._handover.fail(error)
        self._assembler.fail(error)

    def _receive_all(self) -> None:
        """Take every message that has arrived."""
        read, receive = self._connection.read, self._assembler.receive
        while (message := read()) is not None:
            if isinstance(message, Keepalive):
                self._on_keepalive(message)
            elif (transaction := receive(message)) is not None:
                self._hand_over(transaction)

    def _on_keepalive(self, message: Keepalive) -> None:
        if message.reply_requested:
            self._send_status()
        event = self._assembler.idle(message.lsn)
        if event is None and self._idle_due:
            event = Idle(self._assembler.floor)
        if event is not None:
            self._idle_due = False
            self._hand_over(event)

    def _hand_over(self, event: Event) -> None:
        weight = _EVENT_BYTES
        if isinstance(event, Transaction):
            # A spooled one weighs its full size too: so the queue bounds the disk as well.
            weight += event.bytes + event.size * RECORD_OVERHEAD
        while not self._handover.put(event, weight, self._due_in()):
            self._send_status()
            self._heard_at = time.monotonic()  # not listening is no silence

    def _pace(self, await_room: Callable[[float], bool]) -> None:
        """Receive no more of a transaction before some of it is taken."""
        while not self._stopping and not await_room(self._due_in()):
            self._send_status()
            self._heard_at = time.monotonic()

    def _tend(self) -> None:
        """Wait for what comes next, and send what is due meanwhile."""
        if self._idle_asked:
            self._idle_asked, self._idle_due = False, True
            self._send_status(reply_requested=True)
        if self._connection.wait(self._due_in()):
            self._heard_at = time.monotonic()
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(64)
        if self._due_in() <= 0:
            silence = time.monotonic() - self._heard_at
            if silence > self._silence_s:
                raise Silence(f"nothing was heard from the server for {silence:.0f} s")
            self._send_status(reply_requested=silence >= self._interval_s)

    def _due_in(self) -> float:
        unsent = self._acknowledged != self._sent_lsn
        interval = min(self._interval_s, _ACKNOWLEDGE_S) if unsent else self._interval_s
        return self._sent_at + interval - time.monotonic()

    def _send_status(self, *, reply_requested: bool = False) -> None:
        self._sent_lsn = self._acknowledged
        self._sent_at = time.monotonic()
        self._connection.send_status(self._sent_lsn, reply_requested=reply_requested)
