"""What an operator has decided about single records of a stream that cannot be applied as they are.

Kept on the closed side, beside the position: who reads the stream again meets the same decisions.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from cdc.state.position import StreamId
from contexts.databases import Connection


@dataclass(frozen=True, slots=True)
class Decision:
    """One record that is left out, or read as if it were another."""

    #: The record's offset in the topic.
    ordinal: int
    #: What is read in its place; None: nothing.
    replacement: bytes | None
    reason: str
    decided_by: str
    decided_at: dt.datetime


def store(conn: Connection, stream: StreamId, ordinal: int, replacement: bytes | None, reason: str) -> None:
    """Remember a decision; a later one for the same record takes its place.

    :param conn: an autocommit connection to the closed side.
    """
    conn.execute(
        "INSERT INTO carveout.stream_decision (context, epoch, ordinal, replacement, reason)"
        " VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (context, epoch, ordinal) DO UPDATE SET replacement = excluded.replacement,"
        " reason = excluded.reason, decided_by = DEFAULT, decided_at = DEFAULT",
        (stream.context, stream.epoch, ordinal, replacement, reason),
    )


def read(conn: Connection, stream: StreamId) -> list[Decision]:
    """The decisions about a stream, by offset."""
    rows = conn.execute(
        "SELECT ordinal, replacement, reason, decided_by, decided_at FROM carveout.stream_decision"
        " WHERE context = %s AND epoch = %s ORDER BY ordinal",
        (stream.context, stream.epoch),
    )
    return [Decision(*row) for row in rows]
