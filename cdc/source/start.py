"""What must be true before a stream is taken up: the slot holds every change since the stored position."""

from __future__ import annotations

from typing import Final

import psycopg

from cdc.lsn import format_lsn
from cdc.source.connection import ReplicationConnection
from cdc.source.failures import named, publication_missing, slot_active, slot_lost
from cdc.source.slots import PLUGIN, SlotStatus, publication_exists, slot_status
from cdc.state.position import Position
from contexts.databases import Database
from contexts.errors import RefusedError

#: The newest protocol version by server: large transactions in progress (2), two-phase (3), parallel (4).
_PROTOCOL_BY_MAJOR: Final = {14: 2, 15: 3}
_NEWEST_PROTOCOL: Final = 4
#: Behind by more than this it is a backlog. It is what a server keeps of a transaction in memory by default.
_FAR_BYTES: Final = 64 << 20


def open_stream(database: Database, publication: str, position: Position) -> ReplicationConnection:
    """Verify the slot against the position and start it there.

    :raises SlotLost: server, slot or its progress are not those of the position.
    :raises SlotActive: another session reads the slot.
    :raises PublicationMissing: there is no such publication.
    :raises DatabaseUnreachable: no server answered.
    """
    connection = ReplicationConnection(database, f"stream/{position.slot}")
    try:
        written = _verify_server(connection, position)
        with database.connect("stream") as conn:
            _verify_slot(slot_status(conn, position.slot), position, conn.info.dbname)
            if not publication_exists(conn, publication):
                raise publication_missing(publication, "does not exist")
        is_far = written - position.end_lsn > _FAR_BYTES
        connection.start(
            position.slot, position.end_lsn, options(connection.major, publication, streaming=not is_far)
        )  # fmt: skip
    except psycopg.Error as error:
        connection.close()
        raise named(error, database, position.slot, publication) from error
    except BaseException:
        connection.close()
        raise
    return connection


def options(major: int, publication: str, *, streaming: bool = True) -> dict[str, str]:
    """The plugin's options on a server of that major version.

    :param streaming: large transactions are sent while they are open, to be spooled here until their commit. Without,
        the server keeps them until then, and what is sent can be applied while it is received: better for a backlog,
        whose transactions have long been committed.
    """
    quoted = publication.replace('"', '""')
    return {
        "proto_version": str(_PROTOCOL_BY_MAJOR.get(major, _NEWEST_PROTOCOL)),
        "publication_names": f'"{quoted}"',
        "streaming": "on" if streaming else "off",
        "messages": "true",
    }


def _verify_server(connection: ReplicationConnection, position: Position) -> int:
    """Returns how far the server has written its log."""
    identity = connection.identify()
    if identity.system_identifier != position.system_identifier:
        raise slot_lost(
            position.slot,
            f"was on the server with system identifier {position.system_identifier};"
            f" this one is {identity.system_identifier}",
        )
    if identity.timeline != position.timeline:
        raise slot_lost(
            position.slot,
            f"was on timeline {position.timeline}; the server is on {identity.timeline}: a standby was promoted,"
            " and transactions that were applied may be unknown to it",
        )
    return identity.written_lsn


def _verify_slot(status: SlotStatus, position: Position, database: str) -> None:
    slot = position.slot
    if not status.exists:
        raise slot_lost(slot, "does not exist")
    if status.invalidation_reason:
        raise slot_lost(slot, f"was invalidated by the server: {status.invalidation_reason}")
    if status.plugin != PLUGIN or status.database != database:
        raise slot_lost(slot, f"belongs to plugin {status.plugin} and database {status.database!r}: not made by us")
    if status.two_phase:
        raise RefusedError(
            f"slot {slot!r} decodes transactions at their PREPARE, which cannot be applied safely",
            unchanged="nothing was started",
            next_step="make the slot without two_phase",
        )
    if status.active_pid is not None:
        raise slot_active(slot, status.active_pid)
    confirmed = status.confirmed_flush_lsn
    # The server would start at its own position without a word: what lies between would be skipped.
    if confirmed is None or confirmed > position.end_lsn:
        shown = "none" if confirmed is None else format_lsn(confirmed)
        raise slot_lost(
            slot,
            f"stands at {shown}, ahead of the stored position {format_lsn(position.end_lsn)}:"
            " it was made again, or something else has advanced it",
        )
