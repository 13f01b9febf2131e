"""Logical replication slots: their making, their state and their end.

Making a slot waits for every transaction of the whole cluster that has written and is still open. So each way of
making one takes a time limit, and names who is waited for when it passes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import psycopg

from cdc.lsn import parse_lsn
from cdc.source.failures import not_made, publication_missing, slot_active
from cdc.source.publications import publication_exists
from contexts import sqlfiles
from contexts.databases import Connection
from contexts.errors import CarveoutError

PLUGIN: Final = "pgoutput"
_SQL = sqlfiles.load("cdc.source", "slots.sql")
#: How often a slot that is in use is looked at again; the server tells nobody when it becomes free.
_RECHECK_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """A slot as the server shows it; all but ``name`` is empty where it does not exist."""

    name: str
    exists: bool
    plugin: str | None = None
    database: str | None = None
    temporary: bool = False
    two_phase: bool = False
    #: The session that reads it now.
    active_pid: int | None = None
    confirmed_flush_lsn: int | None = None
    #: The server keeps its log from here on.
    restart_lsn: int | None = None
    #: ``reserved``, ``extended``, ``unreserved`` or ``lost``.
    wal_status: str | None = None
    #: Why the server gave the slot up: ``wal_removed``, ``rows_removed``, ``idle_timeout`` and so on.
    invalidation_reason: str | None = None
    #: Bytes of log written since what the reader confirmed.
    lag_bytes: int | None = None

    @property
    def active(self) -> bool:
        """Whether a session reads it now."""
        return self.active_pid is not None


@dataclass(frozen=True, slots=True)
class Blocker:
    """A transaction that the making of a slot waits for."""

    #: ``pid 123`` or ``prepared transaction 'gid'``.
    who: str
    role: str | None
    application: str | None
    database: str | None
    #: Since its start or its PREPARE; None where the role may not see it.
    age_s: float | None

    def __str__(self) -> str:
        age = "age unknown" if self.age_s is None else f"open for {self.age_s:.0f} s"
        application = f", application {self.application!r}" if self.application else ""
        return f"{self.who} (role {self.role!r}{application}, database {self.database!r}, {age})"


class SlotBlocked(CarveoutError):
    """A slot could not be made in time, because transactions that had begun before it are still open."""

    transient = True

    def __init__(self, slot: str, waited_s: float, blockers: list[Blocker]) -> None:
        named = "; ".join(map(str, blockers)) or "none that is still open"
        super().__init__(
            f"slot {slot!r} could not be made within {waited_s:g} s: it waits for {named}",
            unchanged="the attempt was taken back, no slot is left; the transactions were left alone",
            next_step="end those transactions or wait for them, then run the command again",
        )
        self.blockers = blockers


def slot_status(conn: Connection, name: str) -> SlotStatus:
    """What the server says of the slot ``name``."""
    row = conn.execute(_SQL["status"], (name,)).fetchone()
    if row is None:
        return SlotStatus(name, exists=False)
    plugin, database, temporary, two_phase, pid, confirmed, restart, wal_status, invalid, lag = row
    return SlotStatus(
        name, True, plugin, database, temporary, two_phase, pid, _lsn(confirmed), _lsn(restart), wal_status,
        invalid, lag,
    )  # fmt: skip


def create_slot(conn: Connection, name: str, *, publication: str | None = None, timeout_s: float = 30.0) -> int:
    """Make a persistent slot without a snapshot and return its consistent point.

    :param conn: an autocommit connection.
    :param publication: what will be read through it: refused where that does not exist yet.
    :raises PublicationMissing: there is no such publication.
    :raises RefusedError: the slot exists already, or the server has no room or no right for it.
    :raises SlotBlocked: transactions that had begun before stayed open for ``timeout_s``.
    """
    if publication is not None:
        require_publication(conn, publication)
    conn.execute("SELECT set_config('statement_timeout', %s, false)", (str(max(1, int(timeout_s * 1000))),))
    try:
        row = conn.execute(
            "SELECT lsn::text FROM pg_create_logical_replication_slot(%s, %s)", (name, PLUGIN)
        ).fetchone()
    except psycopg.errors.QueryCanceled as error:
        raise SlotBlocked(name, timeout_s, blockers(conn, 0, timeout_s)) from error
    except psycopg.Error as error:
        raise not_made(name, error) from error
    finally:
        if not conn.closed:
            conn.execute("SELECT set_config('statement_timeout', '0', false)")
    assert row is not None
    return parse_lsn(row[0])


def drop_slot(conn: Connection, name: str, *, wait_s: float = 3.0) -> None:
    """Drop the slot; nothing to do where it does not exist. No session is ended for it.

    :param conn: an autocommit connection.
    :param wait_s: a reader that has just gone keeps the slot for a moment.
    :raises SlotActive: somebody still reads it.
    """
    deadline = time.monotonic() + wait_s
    while (status := slot_status(conn, name)).exists:
        try:
            if not status.active:
                conn.execute("SELECT pg_drop_replication_slot(%s)", (name,))
                return
        except psycopg.errors.UndefinedObject:
            return
        except psycopg.errors.ObjectInUse:
            pass  # taken since the look
        if time.monotonic() >= deadline:
            raise slot_active(name, status.active_pid or "unknown")
        time.sleep(_RECHECK_S)


def blockers(conn: Connection, walsender: int, waited_s: float) -> list[Blocker]:
    """Whom the session ``walsender``, which makes a slot, has been waiting for these ``waited_s`` seconds."""
    rows = conn.execute(_SQL["blockers"], {"walsender": walsender, "waited_s": waited_s})
    return [Blocker(*row) for row in rows]


def require_publication(conn: Connection, name: str) -> None:
    """Refuse to go on without the publication.

    A slot reads the catalog as it was at each change: one made before its publication can never be read.

    :raises PublicationMissing: there is none.
    """
    if not publication_exists(conn, name):
        raise publication_missing(name, "does not exist, and a slot must be made after its publication")


def _lsn(text: str | None) -> int | None:
    return parse_lsn(text) if text else None
