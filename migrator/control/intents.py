"""Intents: what a command asks of the worker. Rows that ``status`` shows and that can be cancelled."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from contexts.databases import Connection
from migrator.control.migrations import notify


class Kind(enum.StrEnum):
    """What can be asked."""

    #: Stop copying and applying until it is cancelled; feedback goes on.
    PAUSE = "pause"
    #: Bound the rate; payload: rows_per_s. Stands until it is cancelled.
    THROTTLE = "throttle"
    #: Take snapshots of both sides at one position; the worker answers with them.
    BARRIER = "barrier"

    #: Of a driver, not of the worker: a switch that waits for its moment; payload: to, waits, held.
    SWITCH = "switch"


class IntentState(enum.StrEnum):
    """How far the worker has come with it."""

    REQUESTED = "requested"
    ACCEPTED = "accepted"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Intent:
    """One request to the worker of a context."""

    id: int
    context: str
    kind: Kind
    state: IntentState
    payload: dict[str, Any]
    result: dict[str, Any] | None


def request(conn: Connection, context: str, kind: Kind, payload: dict[str, Any] | None = None) -> Intent:
    """Ask; a standing intent (pause, throttle) replaces an older one of its kind."""
    with conn.transaction():
        if kind is not Kind.BARRIER:
            cancel(conn, context, kind)
        row = conn.execute(
            "INSERT INTO carveout.intent (context, kind, payload) VALUES (%s, %s, %s) RETURNING id",
            (context, kind, Jsonb(payload or {})),
        ).fetchone()
        notify(conn, context)
    assert row is not None
    return Intent(row[0], context, kind, IntentState.REQUESTED, payload or {}, None)


def cancel(conn: Connection, context: str, kind: Kind) -> int:
    """Withdraw the open intents of a kind; returns how many there were."""
    done = conn.execute(
        "UPDATE carveout.intent SET state = 'cancelled', updated_at = clock_timestamp()"
        " WHERE context = %s AND kind = %s AND state IN ('requested', 'accepted')",
        (context, kind),
    )
    notify(conn, context)
    return done.rowcount


def answer(conn: Connection, intent: Intent, state: IntentState, result: dict[str, Any]) -> bool:
    """The worker's answer; False where the intent has been withdrawn meanwhile."""
    done = conn.execute(
        "UPDATE carveout.intent SET state = %s, result = %s, updated_at = clock_timestamp()"
        " WHERE id = %s AND state IN ('requested', 'accepted')",
        (state, Jsonb(result), intent.id),
    )
    notify(conn, intent.context)
    return done.rowcount == 1


def open_intents(conn: Connection, context: str) -> list[Intent]:
    """The intents that are not settled, oldest first."""
    return _select(conn, "context = %s AND state IN ('requested', 'accepted')", (context,))


def note(conn: Connection, intent: Intent, detail: dict[str, Any]) -> None:
    """Add to an open intent's payload what ``status`` shall show."""
    conn.execute(
        "UPDATE carveout.intent SET payload = payload || %s, updated_at = clock_timestamp()"
        " WHERE id = %s AND state IN ('requested', 'accepted')",
        (Jsonb(detail), intent.id),
    )


def read(conn: Connection, intent_id: int) -> Intent:
    """One intent as it stands now."""
    (found,) = _select(conn, "id = %s", (intent_id,))
    return found


def _select(conn: Connection, condition: str, parameters: tuple[object, ...]) -> list[Intent]:
    from psycopg import sql

    query = sql.SQL("SELECT id, context, kind, state, payload, result FROM carveout.intent WHERE {} ORDER BY id")
    rows = conn.execute(query.format(sql.SQL(condition)), parameters).fetchall()
    return [Intent(r[0], r[1], Kind(r[2]), IntentState(r[3]), r[4], r[5]) for r in rows]
