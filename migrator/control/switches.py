"""The record of a switch: its outcome decides whether ``resume`` goes back or forward."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from contexts.databases import Connection
from contexts.errors import CarveoutError, NeedsHuman
from contexts.model import Side
from migrator.control.migrations import Migration, notify, record, transition
from migrator.lifecycle import State

#: What is stored beside the parts of the time without writes.
_COUNTED = ("write_block_ms", "changed_keys", "rechecked_keys", "not_rechecked")
#: A transaction that decides a switch, and whose driver has lost its session, is waited for.
_PATIENCE = "SET LOCAL lock_timeout = '10s'"


class Outcome(enum.StrEnum):
    """What has become of a switch."""

    #: Under way and before the point of no return: a killed driver's switch is undone.
    RUNNING = "running"
    #: Past the point of no return: a killed driver's switch is finished.
    COMMITTED = "committed"
    FINISHED = "finished"
    UNDONE = "undone"


class Undecided(NeedsHuman):
    """Whether a switch is past the point of no return is not known yet."""


class SwitchEnded(CarveoutError):
    """A switch that is no longer ours to finish: a newer driver has taken it over."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One attempt to exchange the sides."""

    id: uuid.UUID
    context: str
    from_side: Side
    to_side: Side
    #: The epoch that begins when the switch commits.
    epoch: int
    outcome: Outcome
    #: The number of the driver at work on it. A driver may lose its lock without knowing; then a newer one has a higher
    #: number, and whatever the older one still tries is refused, here and on both sides.
    driver: int = 0


def begin(conn: Connection, migrations: Sequence[Migration]) -> list[Switch]:
    """Record a new switch of every context and set its state to ``switching``, all in one transaction."""
    together = uuid.uuid4() if len(migrations) > 1 else None
    with conn.transaction():
        return [_begin(conn, migration, together) for migration in sorted(migrations, key=lambda one: one.context)]


def _begin(conn: Connection, migration: Migration, together: uuid.UUID | None) -> Switch:
    transition(conn, migration.context, State.SWITCHING)
    number = _next_driver(conn, migration.context)
    row = conn.execute(
        "INSERT INTO carveout.switch (context, from_side, to_side, epoch, together) VALUES (%s, %s, %s, %s, %s)"
        " RETURNING id",
        (migration.context, migration.open_side, migration.closed_side, migration.epoch + 1, together),
    ).fetchone()
    assert row is not None
    return Switch(row[0], migration.context, migration.open_side, migration.closed_side, migration.epoch + 1,
                  Outcome.RUNNING, number)  # fmt: skip


def newest_driver(conn: Connection, context: str) -> int:
    """The number that the last driver got; 0 before the first."""
    row = conn.execute("SELECT driver FROM carveout.migration WHERE context = %s", (context,)).fetchone()
    return int(row[0]) if row else 0


def members(conn: Connection, context: str) -> list[str]:
    """The contexts whose unfinished switches are decided together with this one's, itself included."""
    rows = conn.execute(
        "SELECT other.context FROM carveout.switch mine JOIN carveout.switch other USING (together)"
        " WHERE mine.context = %s AND mine.outcome IN ('running', 'committed')"
        " AND other.outcome IN ('running', 'committed') ORDER BY 1",
        (context,),
    ).fetchall()
    return sorted({context, *(name for (name,) in rows)})


def take_over(conn: Connection, context: str) -> Switch | None:
    """The switch that is neither finished nor undone, for this driver to end; no older driver can any more.

    :raises Undecided: it is being decided at this moment.
    """
    with conn.transaction():
        found = decided(conn, context)
        return replace(found, driver=_next_driver(conn, context)) if found else None


def decided(conn: Connection, context: str) -> Switch | None:
    """The same as :func:`current`, with an outcome that no transaction under way is about to change.

    A driver whose session was lost at its COMMIT cannot know whether the server is still at it (it may wait for a
    synchronous standby): until that has ended, the row shows what was before.

    :raises Undecided: it does not end.
    """
    with conn.transaction():
        conn.execute(_PATIENCE)
        try:
            conn.execute("SELECT FROM carveout.migration WHERE context = %s FOR UPDATE", (context,))
        except psycopg.errors.LockNotAvailable as error:
            raise Undecided(
                f"context {context!r}: a session that has not ended is deciding the switch",
                unchanged="no side was opened",
                next_step=f"let that session end (it may wait for a standby), then carveout resume {context}",
            ) from error
        return current(conn, context)


def require_newest(conn: Connection, switch: Switch) -> None:
    """Refuse what a driver does that has been replaced; inside a transaction it stays the newest until the end.

    :raises SwitchEnded: a newer driver is there.
    """
    row = conn.execute(
        "SELECT driver FROM carveout.migration WHERE context = %s FOR UPDATE", (switch.context,)
    ).fetchone()
    if row is None or row[0] != switch.driver:
        raise ended(switch)


def ended(switch: Switch) -> SwitchEnded:
    """The error of a driver that was replaced."""
    return SwitchEnded(
        f"context {switch.context!r}: another driver has taken this switch over",
        unchanged="this driver has changed nothing since",
        next_step=f"carveout status {switch.context}",
    )


def _next_driver(conn: Connection, context: str) -> int:
    row = conn.execute(
        "UPDATE carveout.migration SET driver = driver + 1 WHERE context = %s RETURNING driver", (context,)
    ).fetchone()
    assert row is not None
    return int(row[0])


def current(conn: Connection, context: str) -> Switch | None:
    """The switch that is neither finished nor undone."""
    row = conn.execute(
        "SELECT id, context, from_side, to_side, epoch, outcome FROM carveout.switch"
        " WHERE context = %s AND outcome IN ('running', 'committed')",
        (context,),
    ).fetchone()
    return Switch(row[0], row[1], Side(row[2]), Side(row[3]), row[4], Outcome(row[5])) if row else None


def journal(conn: Connection, switch: Switch, step: str, detail: dict[str, Any]) -> None:
    """Note that a step of the switch is done (again, where it was run again)."""
    conn.execute(
        "INSERT INTO carveout.journal (switch, step, detail) VALUES (%s, %s, %s)"
        " ON CONFLICT (switch, step) DO UPDATE SET at = clock_timestamp(), detail = excluded.detail",
        (switch.id, step, Jsonb(detail)),
    )


def noted(conn: Connection, switch: Switch, step: str) -> dict[str, Any] | None:
    """The detail of a step that the journal has, None where it was not done."""
    row = conn.execute(
        "SELECT detail FROM carveout.journal WHERE switch = %s AND step = %s", (switch.id, step)
    ).fetchone()
    return row[0] if row else None


def commit(conn: Connection, together: Sequence[Switch]) -> None:
    """The point of no return: outcome, open side and epoch of all of them change in one transaction.

    :raises SwitchEnded: another driver has undone one: going on would open both sides.
    """
    with conn.transaction():
        for switch in together:
            _commit(conn, switch)


def _commit(conn: Connection, switch: Switch) -> None:
    require_newest(conn, switch)
    done = conn.execute(
        "UPDATE carveout.switch SET outcome = 'committed' WHERE id = %s AND outcome = 'running'", (switch.id,)
    )
    if done.rowcount != 1:
        raise ended(switch)
    conn.execute(
        "UPDATE carveout.migration SET open_side = %s, epoch = %s, updated_at = clock_timestamp() WHERE context = %s",
        (switch.to_side, switch.epoch, switch.context),
    )
    record(conn, switch.context, "switch", {"id": str(switch.id), "outcome": "committed"})
    notify(conn, switch.context)


def split(breakdown: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """What :func:`finish` stored, as what was counted (None where it was not) and the parts of the blocked time."""
    counted = {key: breakdown.get(key) for key in _COUNTED}
    return counted, {key: value for key, value in breakdown.items() if key not in _COUNTED}


def finish(conn: Connection, switch: Switch, breakdown: dict[str, Any]) -> None:
    """Close a committed switch: the migration is ``switched``, or ``streaming`` again after a rollback.

    :raises SwitchEnded: it is not committed, or no longer ours.
    """
    state = State.SWITCHED if switch.to_side is Side.SERVICE else State.STREAMING
    _end(conn, switch, Outcome.FINISHED, state, breakdown, None)


def undo(conn: Connection, switch: Switch, reason: str, measured: dict[str, Any]) -> None:
    """Close a switch that went back: the migration is what it was before.

    :raises SwitchEnded: it is committed, or no longer ours.
    """
    state = State.SWITCHED if switch.from_side is Side.SERVICE else State.STREAMING
    _end(conn, switch, Outcome.UNDONE, state, measured, reason)


def _end(
    conn: Connection, switch: Switch, outcome: Outcome, state: State, breakdown: dict[str, Any], reason: str | None
) -> None:
    with conn.transaction():
        require_newest(conn, switch)
        before = Outcome.COMMITTED if outcome is Outcome.FINISHED else Outcome.RUNNING
        done = conn.execute(
            "UPDATE carveout.switch SET outcome = %s, ended_at = clock_timestamp(), breakdown = %s, reason = %s"
            " WHERE id = %s AND outcome = %s",
            (outcome, Jsonb(breakdown), reason, switch.id, before),
        )
        if done.rowcount != 1:
            raise ended(switch)
        transition(conn, switch.context, state, switch=str(switch.id), outcome=outcome, reason=reason)
