"""The position row: the one durable truth about how far a stream has been applied."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from cdc.lsn import format_lsn, parse_lsn
from contexts.databases import Connection
from contexts.errors import StreamStopped


class Fenced(StreamStopped):
    """Another worker has taken the stream over; this one must not write any more."""


@dataclass(frozen=True, slots=True)
class StreamId:
    """A context's stream between two switches."""

    context: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where a stream stands, bound to the identity of the server and slot that it was read from."""

    system_identifier: str
    timeline: int
    slot: str
    #: Every transaction that ended at or before this is applied.
    end_lsn: int
    #: Source-specific sub-position (a Kafka offset); 0 where the LSN says all.
    ordinal: int = 0
    #: Commit time of the last applied transaction, None before the first.
    source_time: dt.datetime | None = None
    #: Offset of the next record in each partition of the rows; empty where there is only one, and before the first.
    parts: tuple[int, ...] = ()


def create(conn: Connection, stream: StreamId, position: Position) -> None:
    """Store the position at which a new stream begins.

    :raises psycopg.errors.UniqueViolation: the stream exists already: a position is never reset.
    """
    conn.execute(
        "INSERT INTO carveout.position (context, epoch, system_identifier, timeline, slot, end_lsn, ordinal)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (stream.context, stream.epoch, position.system_identifier, position.timeline, position.slot,
         format_lsn(position.end_lsn), position.ordinal),
    )  # fmt: skip


def read(conn: Connection, stream: StreamId) -> Position | None:
    """The stored position, or None where the stream has none."""
    row = conn.execute(
        "SELECT system_identifier, timeline, slot, end_lsn::text, ordinal, source_time, parts FROM carveout.position"
        " WHERE context = %s AND epoch = %s",
        (stream.context, stream.epoch),
    ).fetchone()
    return Position(row[0], row[1], row[2], parse_lsn(row[3]), row[4], row[5], tuple(row[6])) if row else None


def end_former(conn: Connection, context: str) -> None:
    """End the sessions of the worker that is replaced: one that is frozen inside a batch would keep its rows locked.

    What it still had to commit is rolled back, and read again by its successor.
    """
    conn.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s"
        " AND datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()",
        (f"carveout/{session_name(context)}",),
    )


def session_name(context: str) -> str:
    """The purpose of the session that applies a context's stream."""
    return f"apply {context}"


def take(conn: Connection, stream: StreamId, owner: uuid.UUID) -> Position:
    """Make ``owner`` the only worker that may advance the stream, and return its position.

    Waits for a transaction of the former owner to end, so what that one still commits is seen here.

    :raises StreamStopped: the stream has no position.
    """
    conn.execute(
        "UPDATE carveout.position SET owner = %s WHERE context = %s AND epoch = %s",
        (owner, stream.context, stream.epoch),
    )
    if found := read(conn, stream):
        return found
    raise StreamStopped(
        f"context {stream.context!r}: no position is stored for stream {stream.epoch}",
        unchanged="no row was written",
        next_step=f"carveout doctor {stream.context}",
    )


def advance(
    conn: Connection, stream: StreamId, owner: uuid.UUID, end_lsn: int, source_time: dt.datetime | None,
    ordinal: int = 0, parts: Sequence[int] = (),
) -> None:  # fmt: skip
    """Move the position on; call it in the transaction that writes the rows.

    :raises Fenced: another worker owns the stream; the caller's transaction must be rolled back.
    """
    moved = conn.execute(
        "UPDATE carveout.position SET end_lsn = %s, ordinal = %s, parts = %s::bigint[], updated_at = clock_timestamp(),"
        " source_time = coalesce(%s, source_time) WHERE context = %s AND epoch = %s AND owner = %s",
        (format_lsn(end_lsn), ordinal, list(parts), source_time, stream.context, stream.epoch, owner),
    )
    if moved.rowcount != 1:
        raise Fenced(
            f"context {stream.context!r}: another worker has taken over stream {stream.epoch}",
            unchanged="this worker's open batch was rolled back",
            next_step="stop one of the two workers",
        )
