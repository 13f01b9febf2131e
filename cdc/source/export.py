"""A slot whose snapshot shows the database exactly at the slot's consistent point."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import psycopg
from psycopg import sql

from cdc.lsn import parse_lsn
from cdc.source.connection import ReplicationConnection
from cdc.source.failures import not_made
from cdc.source.slot_state import (
    PLUGIN,
    SlotBlocked,
    blockers,
    drop_slot,
    require_publication,
)
from contexts.databases import Database
from contexts.errors import CarveoutError

#: A cancelled walsender answers within milliseconds, unless the server is a standby that waits for its primary.
_CANCEL_S: Final = 5.0
#: Between two looks at whether waiting is in vain.
_LOOK_S: Final = 0.25


@dataclass
class ExportedSlot:
    """A new slot, and a snapshot that lives until :meth:`close`.

    The snapshot shows exactly the transactions that committed before ``consistent_point``; the slot sends exactly
    the others. Import it in ``REPEATABLE READ`` with ``SET TRANSACTION SNAPSHOT``, on the same server.
    """

    name: str
    consistent_point: int
    snapshot: str
    system_identifier: str
    timeline: int
    temporary: bool
    _connection: ReplicationConnection

    def close(self) -> None:
        """Give the snapshot up, and with it a temporary slot; safe to call twice."""
        if self.temporary:
            with contextlib.suppress(psycopg.Error):  # the connection may be gone, and the slot with it
                self._connection.command(sql.SQL("DROP_REPLICATION_SLOT {}").format(sql.Identifier(self.name)))
        self._connection.close()

    def __enter__(self) -> ExportedSlot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def export_slot(
    database: Database,
    name: str,
    *,
    temporary: bool,
    timeout_s: float,
    publication: str | None = None,
    is_vain: Callable[[], bool] = lambda: False,
) -> ExportedSlot:
    """Make a slot and export its snapshot.

    :param temporary: the slot ends with :meth:`ExportedSlot.close`.
    :param timeout_s: how long to wait for transactions that had begun before.
    :param is_vain: asked while it waits: whether it waits for somebody who waits for the caller.
    :param publication: what will be read through the slot; it must exist first. None: the slot is never read.
    :raises PublicationMissing: there is no such publication.
    :raises RefusedError: the slot exists already, or the server has no room or no right for it.
    :raises SlotBlocked: transactions that had begun before stayed open; nothing is left behind.
    """
    if publication is not None:
        with database.connect("slot") as conn:
            require_publication(conn, publication)
    connection = ReplicationConnection(database, "slot")
    try:
        identity = connection.identify()
        connection.begin_command(creation_sql(connection.major, name, temporary=temporary))
        made = _made(connection, database, name, timeout_s, is_vain)
    except psycopg.Error as error:
        connection.close()
        raise not_made(name, error) from error
    except BaseException:
        connection.close()
        raise
    return ExportedSlot(
        name, made.consistent_point, made.snapshot, identity.system_identifier, identity.timeline, temporary, connection
    )  # fmt: skip


def creation_sql(major: int, name: str, *, temporary: bool) -> sql.Composed:
    """The command that makes a slot and exports its snapshot, in the words of the server's major version."""
    return sql.SQL("CREATE_REPLICATION_SLOT {} {}LOGICAL {} {}").format(
        sql.Identifier(name),
        sql.SQL("TEMPORARY " if temporary else ""),
        sql.SQL(PLUGIN),
        sql.SQL("(SNAPSHOT 'export')" if major >= 15 else "EXPORT_SNAPSHOT"),
    )


class _Made(NamedTuple):
    consistent_point: int
    snapshot: str


def _made(
    connection: ReplicationConnection, database: Database, name: str, timeout_s: float, is_vain: Callable[[], bool]
) -> _Made:
    began = time.monotonic()
    rows = None
    while rows is None:
        left_s = began + timeout_s - time.monotonic()
        rows = connection.finish_command(max(0.0, min(left_s, _LOOK_S)))
        if rows is None and (left_s <= _LOOK_S or is_vain()):
            rows = _give_up(connection, database, name, min(timeout_s, time.monotonic() - began))
    ((_name, consistent_point, snapshot, *_),) = rows
    assert consistent_point is not None
    assert snapshot is not None
    return _Made(parse_lsn(consistent_point), snapshot)


def _give_up(
    connection: ReplicationConnection, database: Database, name: str, waited_s: float
) -> list[tuple[str | None, ...]]:
    """Take the attempt back and raise who was waited for; the rows where the slot was made after all."""
    pid = connection.pg.backend_pid
    with database.connect("slot") as conn:
        blocked = SlotBlocked(name, waited_s, blockers(conn, pid, waited_s))
        conn.execute("SELECT pg_cancel_backend(%s)", (pid,))
        try:
            if rows := connection.finish_command(_CANCEL_S):
                return rows
            conn.execute("SELECT pg_terminate_backend(%s)", (pid,))
        except psycopg.errors.QueryCanceled:
            pass
        connection.close()
        try:
            drop_slot(conn, name)
        except CarveoutError as error:
            blocked.unchanged = f"the half-made slot could not be dropped: {error}"
        raise blocked
