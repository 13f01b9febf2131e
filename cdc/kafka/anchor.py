"""Copies of the connector's slot, so that the connector can be set back behind what it has told the server.

Debezium tells the server that a transaction is safe once Kafka has it. Where the connector was restarted inside that
transaction, rows of it may be missing in Kafka, and its slot does not have it any more. A copy of the slot, made while
the slot stood at or before what is applied, has it.

The copies are temporary slots of one session: they end with the worker, whatever happens to it, and keep no log of a
server whose worker is down. Copying takes no decoding: a copy begins where the slot stood. There are two at most: one
to go back to, and a later one that takes its place once everything before it is applied.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import psycopg

from cdc.lsn import format_lsn
from cdc.source.failures import slot_lost
from cdc.source.slots import drop_slot, slot_status
from contexts.databases import Connection, Database
from contexts.errors import CarveoutError, SlotLost

#: How often the copies are looked at, and when again after the server did not let us.
EVERY_S, AFTER_FAILURE_S = 5.0, 60.0
#: A copy that keeps more log than this is given up: the worker is far behind, and Kafka has what it needs.
MOST_KEPT = 1 << 30
_MOST = 2
#: So many slots of the server are left to others.
LEFT_FREE = 2
_FREE = "SELECT current_setting('max_replication_slots')::int - count(*) FROM pg_replication_slots"
_TIMEOUT = "10s"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Copy:
    name: str
    #: It has every transaction that ended after this.
    lsn: int


@dataclass
class Anchor:
    """The copies of one slot.

    :param open_: where the slot is.
    :param slot: its name.
    """

    open_: Database
    slot: str
    _copies: list[_Copy] = field(default_factory=list)
    _conn: Connection | None = None
    _next: float = 0.0
    _count: int = 0

    def follow(self, applied: int) -> None:
        """Keep a copy that has everything that ended after ``applied``; a call in between does nothing.

        A server that refuses, or has no slot left for it, is no error: then there is no way back behind the slot.
        """
        if (now := time.monotonic()) < self._next:
            return
        self._next = now + EVERY_S
        try:
            self._follow(self._session(), applied)
        except (psycopg.Error, CarveoutError) as error:
            _log.info("slot %s is not copied: %s", self.slot, " ".join(str(error).split()))
            self.close()
            self._next = now + AFTER_FAILURE_S  # rows are not to wait for a server that does not answer

    def reaches(self, end_lsn: int) -> bool:
        """Whether there is a copy that has everything that ended after ``end_lsn``."""
        return self._latest(end_lsn) is not None

    def restore(self, end_lsn: int) -> bool:
        """Make the slot anew, so that it has everything that ended after ``end_lsn``; nobody may read it meanwhile.

        :returns: False where there is no such copy: nothing was changed.
        :raises SlotActive: somebody reads it; nothing was changed.
        :raises SlotLost: the server went away after it was dropped.
        """
        if (copy := self._latest(end_lsn)) is None or self._conn is None:
            return False
        try:
            self._conn.execute("SELECT 1")  # the copies end with their session
        except psycopg.Error:
            self.close()
            return False
        try:
            drop_slot(self._conn, self.slot)
            self._conn.execute("SELECT pg_copy_logical_replication_slot(%s, %s, false)", (copy.name, self.slot))
        except psycopg.Error as error:
            raise SlotLost(
                f"slot {self.slot!r} was dropped, and could not be made anew: {type(error).__name__}",
                unchanged="no row was written, the position was not moved",
                next_step="copy again, or repair with a full diff",
            ) from error
        _log.warning("slot %s was made anew where it stood at %s", self.slot, format_lsn(copy.lsn))
        return True

    def close(self) -> None:
        """Drop the copies; a second call does nothing."""
        conn, self._conn = self._conn, None
        self._copies.clear()
        if conn is not None:
            conn.close()

    def _latest(self, end_lsn: int) -> _Copy | None:
        return next((copy for copy in reversed(self._copies) if copy.lsn <= end_lsn), None)

    def _follow(self, conn: Connection, applied: int) -> None:
        stands, latest = _confirmed(conn, self.slot), self._latest(applied)
        is_far_behind = self._copies and stands - self._copies[0].lsn > MOST_KEPT
        for copy in list(self._copies):
            if is_far_behind or (latest and copy.lsn < latest.lsn):
                conn.execute("SELECT pg_drop_replication_slot(%s)", (copy.name,))
                self._copies.remove(copy)
        if not self._copies or (len(self._copies) < _MOST and stands > self._copies[-1].lsn):
            row = conn.execute(_FREE).fetchone()
            if row and row[0] > LEFT_FREE:
                self._copy(conn)

    def _copy(self, conn: Connection) -> None:
        self._count += 1
        name = f"{self.slot}_at_{conn.info.backend_pid}_{self._count}"
        conn.execute("SELECT pg_copy_logical_replication_slot(%s, %s, true)", (self.slot, name))
        self._copies.append(_Copy(name, _confirmed(conn, name)))

    def _session(self) -> Connection:
        if self._conn is None or self._conn.closed:
            self.close()
            self._conn = self.open_.connect("anchor", statement_timeout=_TIMEOUT)
        return self._conn


def _confirmed(conn: Connection, name: str) -> int:
    found = slot_status(conn, name).confirmed_flush_lsn
    if found is None:
        raise slot_lost(name, "does not exist")
    return found
