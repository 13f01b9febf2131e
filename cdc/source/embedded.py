"""The embedded source: PostgreSQL's logical replication protocol, without anything between."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psycopg

from cdc.events import Event
from cdc.source.assembler import Assembler
from cdc.source.failures import named
from cdc.source.handover import Handover
from cdc.source.reader import Reader
from cdc.source.start import open_stream
from cdc.state.position import Position
from contexts.databases import Database

_MEGABYTE: Final = 1_000_000


class EmbeddedSource:
    """Committed transactions of a database in commit order; see :class:`cdc.source.base.Source`.

    :param position: the stored position; the stream goes on exactly there.
    :param spool_dir: where transactions larger than memory go.
    :param memory_bytes: what the transactions being received may hold in memory together.
    :param queue_bytes: what the transactions received and not yet polled may weigh together.
    :param status_interval_s: how often the server is told what is durable, at the least; more often where the
        server's ``wal_sender_timeout`` asks for it.
    :raises SlotLost: the slot does not hold every change since the position.
    :raises SlotActive: another session reads the slot.
    :raises PublicationMissing: there is no such publication.
    :raises DatabaseUnreachable: no server answered.
    """

    def __init__(
        self,
        database: Database,
        publication: str,
        position: Position,
        *,
        spool_dir: Path,
        memory_bytes: int,
        queue_bytes: int = 16 * _MEGABYTE,
        status_interval_s: float = 10.0,
    ) -> None:
        def name_error(error: psycopg.Error) -> Exception:
            return named(error, database, position.slot, publication)

        connection = open_stream(database, publication, position)
        self._handover = Handover(queue_bytes)
        assembler = Assembler(spool_dir, memory_bytes, position.end_lsn)
        self._reader = Reader(
            connection, assembler, self._handover, position.end_lsn, status_interval_s, name_error
        )  # fmt: skip

    def poll(self, timeout_s: float) -> Event | None:
        """The next event, or None where none came within ``timeout_s`` (0: only what is there already).

        :raises StreamStopped: the stream cannot go on without losing something.
        :raises SpoolFull: a large transaction could not be spooled.
        :raises DatabaseUnreachable: the connection broke; a new source goes on from the stored position.
        """
        return self._handover.get(timeout_s)

    def acknowledge(self, end_lsn: int) -> None:
        """Tell the server that everything up to ``end_lsn`` is durable on the closed side."""
        self._reader.acknowledge(end_lsn)

    def request_idle(self) -> None:
        """Ask for an Idle event soon, to learn how far the stream has come."""
        self._reader.request_idle()

    def close(self) -> None:
        """End the stream and free its resources; safe to call twice."""
        self._reader.stop()
