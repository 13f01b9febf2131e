"""The migration row and the one function that changes its state."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from cdc.state.position import StreamId
from contexts.databases import Connection
from contexts.model import Side
from migrator.lifecycle import State, require_transition

CHANNEL = "carveout"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Migration:
    """The moving of one context as the control schema knows it."""

    context: str
    state: State
    open_side: Side
    epoch: int
    updated_at: dt.datetime | None = None

    @property
    def closed_side(self) -> Side:
        """The side that the stream writes to."""
        return self.open_side.other

    @property
    def stream(self) -> StreamId:
        """The stream from the open to the closed side."""
        return StreamId(self.context, self.epoch)


def read(conn: Connection, context: str) -> Migration:
    """The migration of a context; ``planned`` where nothing was prepared yet."""
    try:
        row = conn.execute(
            "SELECT state, open_side, epoch, updated_at FROM carveout.migration WHERE context = %s", (context,)
        ).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        row = None
    if row is None:
        return Migration(context, State.PLANNED, Side.SHARED, 1)
    return Migration(context, State(row[0]), Side(row[1]), row[2], row[3])


def read_all(conn: Connection) -> list[Migration]:
    """Every migration that has a row."""
    try:
        rows = conn.execute(
            "SELECT context, state, open_side, epoch, updated_at FROM carveout.migration ORDER BY context"
        ).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return []
    return [Migration(r[0], State(r[1]), Side(r[2]), r[3], r[4]) for r in rows]


def transition(
    conn: Connection,
    context: str,
    wanted: State,
    *,
    open_side: Side | None = None,
    epoch: int | None = None,
    **detail: Any,
) -> Migration:
    """Change the state, log from -> to, and tell every listener, in one transaction.

    Asking for the state that is already there does nothing, so a step that is run again goes on.

    :raises RefusedError: the transition is not in the table.
    """
    with conn.transaction():
        # The row may not exist yet: the lock keeps two drivers apart there too.
        conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('carveout:state:' || %s, 0))", (context,))
        before = read(conn, context)
        if before.state is wanted:
            return before
        require_transition(context, before.state, wanted)
        after = Migration(context, wanted, open_side or before.open_side, epoch or before.epoch)
        conn.execute(
            "INSERT INTO carveout.migration (context, state, open_side, epoch) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (context) DO UPDATE SET state = excluded.state, open_side = excluded.open_side,"
            " epoch = excluded.epoch, updated_at = clock_timestamp()",
            (context, after.state, after.open_side, after.epoch),
        )
        record(conn, context, "state", {"from": before.state, "to": wanted, **detail})
        notify(conn, context)
    _log.info("context %s: %s -> %s", context, before.state, wanted, extra={"detail": detail})
    return after


def record(conn: Connection, context: str, kind: str, detail: dict[str, Any]) -> None:
    """Append to the event log."""
    conn.execute(
        "INSERT INTO carveout.event (context, kind, detail) VALUES (%s, %s, %s)", (context, kind, Jsonb(detail))
    )


def notify(conn: Connection, context: str) -> None:
    """Wake everything that listens for changes of the context's control rows."""
    conn.execute("SELECT pg_notify(%s, %s)", (CHANNEL, context))
