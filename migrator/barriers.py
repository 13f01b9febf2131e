"""Asks the worker for barriers, and keeps their snapshots alive on sessions of our own.

While applications write both sides the worker answers that it only audits: then the barrier is taken without it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from psycopg import sql

from cdc.lsn import format_lsn
from cdc.state import position
from cdc.worker.signals import NoBarrier
from contexts.databases import Connection, Databases
from contexts.errors import CarveoutError, RefusedError
from contexts.model import Context
from migrator.control import intents, locks, migrations
from migrator.control.intents import IntentState, Kind
from migrator.control.migrations import CHANNEL
from migrator.lockstep import agreed
from migrator.lockstep.agreed import HoldOver, NotInLockstep
from validations.barrier import Barrier, Barriers, Snapshot
from validations.history.tables import versioned
from validations.snapshots import Rewritten, SnapshotGone, enter

#: Beyond the worker's own limit for slot creation: applying up to the barrier, and the way of the answer.
GRACE_S = 60.0
#: What a member of a group needs to take over, beside the time in which the silent one is missed.
TAKEOVER_S = 10.0
_TRIES = 5  # of barriers, where an application truncates its tables
_PAUSE_S = 0.5
_LOOK_S = 0.05
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class BarrierFailed(CarveoutError):
    """The worker could not make a barrier."""

    transient = True


class InLockstep(CarveoutError):
    """The worker only audits: it cannot hold still what applications write to both sides."""

    transient = True


class _Again(BarrierFailed):
    """A switch held the gate closed."""


class WorkerBarriers:
    """Barriers of one context's live stream; each call asks for a new one.

    :param hold_s: the worker applies nothing before the block is left, or for so long at most.
    :param recent_keys: the worker stores the keys changed last, so that the closed snapshot has them.
    """

    def __init__(
        self, context: Context, databases: Databases, *, hold_s: float = 0.0, recent_keys: bool = False
    ) -> None:
        self._context = context
        self._databases = databases
        self._payload = {"hold_s": hold_s, "recent_keys": recent_keys}

    @contextmanager
    def __call__(self) -> Iterator[Barrier]:
        """Both sides at one position, for as long as the block runs.

        :raises RefusedError: no worker runs.
        :raises BarrierFailed: running transactions did not end in time, or the worker stopped.
        :raises SnapshotGone: the workers ended just after each answer.
        :raises NoAgreement: in lockstep, and transactions stay prepared on the service side.
        :raises InLockstep: the context is in lockstep, and ``hold_s`` was wanted.
        """
        with ExitStack() as stack:
            yield self._entered(stack)

    def _entered(self, stack: ExitStack) -> Barrier:
        """In the phase that is on; it may change between two looks, and a switch may be at work meanwhile."""
        deadline = time.monotonic() + self._context.options.barrier_timeout_s
        while True:
            try:
                try:
                    return stack.enter_context(self._of_the_stream())
                except InLockstep:
                    if self._payload["hold_s"]:
                        raise
                    found = stack.enter_context(agreed.barrier(self._context, self._databases))
                    self._await_versions(found)
                    return found
            except (NotInLockstep, HoldOver, SnapshotGone, _Again) as error:
                if time.monotonic() > deadline:
                    raise
                _log.info("%s", error)
                time.sleep(_PAUSE_S)

    def _await_versions(self, barrier: Barrier) -> None:
        """The rows of a moment of lockstep may be ahead of the stream, and so of the versions that it records."""
        if not versioned(self._context):
            return
        deadline = time.monotonic() + self._context.options.barrier_timeout_s
        with self._databases.shared.connect("barrier") as shared, self._databases.service.connect("barrier") as service:
            stream = migrations.read(shared, self._context.name).stream
            while (stored := position.read(service, stream)) is None or stored.end_lsn < barrier.lsn:
                if time.monotonic() > deadline:
                    raise BarrierFailed(
                        f"context {self._context.name!r}: the versions did not come up to {format_lsn(barrier.lsn)}",
                        unchanged="the stream goes on",
                        next_step=f"carveout status {self._context.name}",
                    )
                time.sleep(_LOOK_S)

    @contextmanager
    def _of_the_stream(self) -> Iterator[Barrier]:
        with ExitStack() as stack:
            conn = stack.enter_context(self._databases.shared.connect(f"barrier/{self._context.name}"))
            conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
            payload = {**self._payload, "session": conn.info.backend_pid}
            intent = intents.request(conn, self._context.name, Kind.BARRIER, payload)
            try:
                barrier = self._imported(stack, conn, self._await(conn, intent.id))
            except BaseException:
                intents.answer(conn, intent, IntentState.CANCELLED, {})
                raise
            if not self._payload["hold_s"]:  # the worker goes on at once
                intents.answer(conn, intent, IntentState.DONE, {"lsn": barrier.lsn})
                yield barrier
                return
            try:
                yield barrier
            finally:
                intents.answer(conn, intent, IntentState.DONE, {"lsn": barrier.lsn})

    def _failed(self, result: dict[str, Any]) -> CarveoutError:
        name, why = self._context.name, result.get("why")
        if why == NoBarrier.IN_LOCKSTEP:
            return InLockstep(
                f"context {name!r} is in lockstep: the stream cannot be held",
                unchanged="nothing was changed",
                next_step=f"carveout status {name}",
            )
        kind = _Again if why == NoBarrier.AGAIN else BarrierFailed
        return kind(
            f"context {name!r}: no barrier: {result.get('reason')}",
            unchanged="the stream goes on",
            next_step=f"carveout verify {name}",
        )

    def _imported(self, stack: ExitStack, conn: Connection, answer: dict[str, Any]) -> Barrier:
        side = migrations.read(conn, self._context.name).open_side
        return Barrier(
            answer["lsn"],
            side,
            _held(stack, Snapshot(self._databases[side], answer["open_snapshot"])),
            _held(stack, Snapshot(self._databases[side.other], answer["closed_snapshot"])),
        )

    def _takeover_s(self) -> float:
        """For so long there may be no worker: the members of a group replace each other."""
        kafka = self._context.kafka
        return 2 * kafka.group_session_s + TAKEOVER_S if kafka and kafka.group else 0.0

    def _await(self, conn: Connection, intent_id: int) -> dict[str, Any]:
        deadline = time.monotonic() + self._context.options.barrier_timeout_s + GRACE_S
        seen = time.monotonic()
        while True:
            intent = intents.read(conn, intent_id)
            if intent.state is IntentState.ACCEPTED and intent.result:
                return intent.result
            if intent.state is IntentState.FAILED:
                raise self._failed(intent.result or {})
            if locks.is_held(conn, self._context.name, "worker"):
                seen = time.monotonic()
            elif time.monotonic() - seen > self._takeover_s():
                raise RefusedError(
                    f"context {self._context.name!r}: no worker is running, so there is no barrier",
                    unchanged="nothing was compared",
                    next_step=f"carveout worker {self._context.name}",
                )
            if time.monotonic() > deadline:
                raise BarrierFailed(
                    f"context {self._context.name!r}: the worker did not reach a barrier in time",
                    unchanged="the stream goes on",
                    next_step=f"carveout status {self._context.name}",
                )
            next(conn.notifies(timeout=1.0, stop_after=1), None)


def at_a_barrier(barriers: Barriers, ask: Callable[[Barrier], _T]) -> _T:
    """What ``ask`` answers at a barrier; at the next one where a table was truncated under its snapshots.

    :raises Rewritten: at each of them, so an application truncates its tables all the time.
    """
    for _ in range(_TRIES - 1):
        try:
            with barriers() as barrier:
                return ask(barrier)
        except Rewritten as error:
            _log.info("%s; the next barrier is taken", error)
    with barriers() as barrier:
        return ask(barrier)


def _held(stack: ExitStack, snapshot: Snapshot) -> Snapshot:
    """Hold the snapshot on a session of ours and export it again, so the worker's session may end at once."""
    holder = stack.enter_context(snapshot.database.connect("barrier-holder", autocommit=False))
    enter(holder, snapshot)
    row = holder.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    return Snapshot(snapshot.database, row[0])
