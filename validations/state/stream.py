"""The stream that a verification was made on: a proof holds for no other one."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from cdc.lsn import format_lsn, parse_lsn
from cdc.state.position import Position
from contexts import sqlfiles
from contexts.databases import Database

_SQL = sqlfiles.load("validations.state", "stream.sql")


@dataclass(frozen=True, slots=True)
class StreamSeen:
    """The identity of a stream, and how far it was applied."""

    epoch: int
    system_identifier: str
    timeline: int
    slot: str
    end_lsn: int

    @classmethod
    def at(cls, epoch: int, position: Position) -> StreamSeen:
        """What a stored position says."""
        return cls(epoch, position.system_identifier, position.timeline, position.slot, position.end_lsn)

    def is_same(self, other: StreamSeen) -> bool:
        """Whether both are one stream: the same slot of the same server, between the same two switches."""
        return (self.epoch, self.system_identifier, self.timeline, self.slot) == (
            other.epoch, other.system_identifier, other.timeline, other.slot,
        )  # fmt: skip


def save(database: Database, verification: int, seen: StreamSeen) -> None:
    """Store it as the last part of a verification."""
    values = (seen.epoch, seen.system_identifier, seen.timeline, seen.slot, format_lsn(seen.end_lsn))
    with database.connect("verification") as session:
        session.execute(_SQL["save"], (verification, *values))


def read(database: Database, verification: int) -> StreamSeen | None:
    """What was stored; None where nothing was, or the tables are of an earlier revision."""
    with database.connect("verification") as session:
        try:
            row = session.execute(_SQL["read"], (verification,)).fetchone()
        except psycopg.errors.UndefinedTable:
            return None
    if row is None:
        return None
    epoch, system_identifier, timeline, slot, end_lsn = row
    return StreamSeen(epoch, system_identifier, timeline, slot, parse_lsn(end_lsn))
