"""Barriers while applications write both sides: moments at which no transaction is between its two commits.

Every transaction that ships holds ROW EXCLUSIVE on the service side's gate from before its first row there until it is
decided: a prepared transaction keeps its locks. Whoever holds SHARE on that gate therefore knows that

- what is committed on the shared side is committed on the service side: it had to be prepared there before, and nothing
  is prepared now;
- what is committed on the service side is committed, and visible, on the shared side: that commit is the decision;
- nobody goes on: a transaction that has not shipped cannot begin to, and one that has not shipped cannot commit.

So two snapshots that are taken meanwhile, one on each side, hold the same transactions, whatever the stream's lag is.
This is so in lockstep only, therefore the phase is asked for in the snapshots themselves: the shared side's shows the
mode; the service side's shows that the last marker announced is applied and older than both, and that lockstep was not
left since. A rogue write past the shim is on one side only, and is what a comparison is to find.

Writers wait while the lock is waited for (:data:`LOCK_MS` at most, then it is given up for at least as long) and while
the snapshots are taken, which are four round trips (:data:`HOLD_MS` at most: then the server ends the session).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql

from cdc.lsn import parse_lsn
from contexts import sqlfiles
from contexts.databases import Connection, Databases
from contexts.errors import CarveoutError
from contexts.model import Context, Side
from migrator.sides.gate import gate_table
from validations.barrier import Barrier, Snapshot

LOCK_MS = 250
HOLD_MS = 1_000
_PAUSE_S = (LOCK_MS / 1000, 2.0)
_SQL = sqlfiles.load("migrator.lockstep", "agreed.sql")
_BEGUN = sql.SQL("SELECT {}").format(_SQL["begun"])
_BEGUN_AND_SNAPSHOT = sql.SQL("SELECT {}, pg_export_snapshot()").format(_SQL["begun"])
_log = logging.getLogger(__name__)


class NoAgreement(CarveoutError):
    """There was no moment without a transaction between its two commits."""

    transient = True


class HoldOver(CarveoutError):
    """The server has ended the hold, since writers had waited for long enough."""

    transient = True


class NotInLockstep(CarveoutError):
    """Lockstep was left, or entered a moment ago: the stream's barrier is the one to take."""

    transient = True


@contextmanager
def barrier(context: Context, both: Databases) -> Iterator[Barrier]:
    """Both sides at one moment, for as long as the block runs; writers go on before it begins.

    :raises NotInLockstep: the context is not in lockstep, or not quite.
    :raises NoAgreement: transactions stayed prepared on the service side for ``barrier_timeout_s``.
    :raises HoldOver: a server or this process was too slow; nobody waits for it any more.
    """
    with both.service.connect("agreed", autocommit=False) as holder, held(context, both, holder) as found:
        with suppress(psycopg.Error):  # it was ended a moment ago
            holder.rollback()
        yield found


@contextmanager
def held(context: Context, both: Databases, holder: Connection, *, hold_ms: int = HOLD_MS) -> Iterator[Barrier]:
    """The same; nothing moves on until the transaction of ``holder``, a session of the service side, ends.

    What that transaction writes on the service side commits before anything else does there.

    :param hold_ms: where it does nothing, or one thing, for longer, the server ends it.
    :raises CarveoutError: as for :func:`barrier`.
    """
    with ExitStack() as stack:
        sessions = {side: stack.enter_context(both[side].connect("agreed", autocommit=False)) for side in Side}
        for session in sessions.values():
            session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            session.read_only = True
        asked = stack.enter_context(both.shared.connect("agreed"))
        _hold(holder, context, hold_ms)
        try:
            (lsn,) = _one(asked, _SQL["position"], {})
            known = {"context": context.name, "lsn": lsn}
            mode, shared = _one(sessions[Side.SHARED], _SQL["shared"], known)
            entered, service = _one(sessions[Side.SERVICE], _BEGUN_AND_SNAPSHOT, known)
            _require(holder, context, in_lockstep=mode == "lockstep" and entered)
        except psycopg.Error as error:
            raise _hold_over(context) from error
        yield Barrier(parse_lsn(lsn), Side.SHARED, Snapshot(both.shared, shared), Snapshot(both.service, service))


def _require(holder: Connection, context: Context, *, in_lockstep: bool) -> None:
    """Make sure that the snapshots are of one moment: nothing moved on since before the first of them."""
    if not is_held(holder, context.name):
        raise _hold_over(context)
    if not in_lockstep:
        holder.rollback()
        raise NotInLockstep(
            f"context {context.name!r} is not in lockstep at this moment",
            unchanged="nothing was compared",
            next_step=f"carveout status {context.name}",
        )


def is_held(holder: Connection, context: str) -> bool:
    """Whether the open transaction of ``holder`` keeps the service side still."""
    row = holder.execute(_SQL["is_held"], {"gate": gate_table(context).as_string()}).fetchone()
    return bool(row and row[0])


def goes_on(holder: Connection, context: str) -> bool:
    """Whether nothing that was written after lockstep was left can be on the service side yet."""
    (has_begun,) = _one(holder, _BEGUN, {"context": context, "lsn": None})
    return bool(has_begun)


def _hold(holder: Connection, context: Context, hold_ms: int) -> None:
    """Wait until nothing is prepared, and keep it so."""
    deadline, pause_s = time.monotonic() + context.options.barrier_timeout_s, _PAUSE_S[0]
    lock = sql.SQL("LOCK TABLE {} IN SHARE MODE").format(gate_table(context.name))
    while True:
        try:
            holder.execute(_SQL["limits"], {"lock": f"{LOCK_MS}ms", "hold": f"{hold_ms}ms"})
            holder.execute(lock)
            return
        except psycopg.errors.LockNotAvailable:
            holder.rollback()
            if time.monotonic() + pause_s > deadline:
                raise _no_agreement(holder, context) from None
        time.sleep(pause_s)  # writers go on meanwhile
        pause_s = min(2 * pause_s, _PAUSE_S[1])


def _hold_over(context: Context) -> HoldOver:
    return HoldOver(
        f"context {context.name!r}: the snapshots of both sides took longer than writers may wait",
        unchanged="nothing was compared; applications go on",
        next_step=f"carveout status {context.name}",
    )


def _no_agreement(holder: Connection, context: Context) -> NoAgreement:
    prepared = [gid for (gid,) in holder.execute(_SQL["prepared"], {"context": context.name})]
    holder.rollback()
    shown = ", ".join(prepared[:3]) or "others that ship for long"
    return NoAgreement(
        f"context {context.name!r}: no moment without a transaction between its two commits within"
        f" {context.options.barrier_timeout_s:g} s; prepared: {shown}",
        unchanged="nothing was compared; applications go on",
        next_step=f"carveout doctor {context.name}",
    )


def _one(session: Connection, query: sql.SQL | sql.Composed, known: Mapping[str, str | None]) -> tuple[Any, ...]:
    row = session.execute(query, known).fetchone()
    assert row is not None
    return row
