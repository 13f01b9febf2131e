"""A barrier intent as the stream sees it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

import psycopg

from cdc.worker.signals import BarrierSnapshots, NoBarrier
from contexts.databases import Connection, Database
from migrator.control import intents
from migrator.control.intents import Intent, IntentState

_log = logging.getLogger(__name__)


class IntentBarrier:
    """Answers a barrier intent; its requester settles the intent when the snapshots are imported."""

    def __init__(self, shared: Database, intent: Intent, is_handed_on: Callable[[], bool]) -> None:
        """:param is_handed_on: whether another worker has taken over, which answers in this one's place."""
        self._shared = shared
        self._intent = intent
        self._is_handed_on = is_handed_on

    @property
    def hold_s(self) -> float:
        """How long nothing is applied, unless the intent is settled before."""
        return float(self._intent.payload.get("hold_s", 0.0))

    @property
    def wants_recent_keys(self) -> bool:
        """Whether the requester re-checks the keys changed last."""
        return bool(self._intent.payload.get("recent_keys", False))

    def reached(self, snapshots: BarrierSnapshots) -> bool:
        """Hand the snapshots over; False where the request was cancelled."""
        return self._answer(IntentState.ACCEPTED, dataclasses.asdict(snapshots))

    def failed(self, reason: str, why: NoBarrier = NoBarrier.FAILED) -> None:
        """Settle the intent as failed; nothing to do where another worker answers it."""
        if not self._is_handed_on():
            self._answer(IntentState.FAILED, {"reason": reason, "why": why})

    def is_released(self) -> bool:
        """Whether the requester has settled the intent, is gone, or cannot be asked any more."""
        try:
            with self._shared.connect("barrier") as conn:
                accepted = intents.read(conn, self._intent.id).state is IntentState.ACCEPTED
                return not (accepted and self._requester_is_there(conn))
        except psycopg.Error:
            return True

    def _requester_is_there(self, conn: Connection) -> bool:
        gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)"
        return conn.execute(gone, (self._intent.payload.get("session"),)).fetchone() != (True,)

    def _answer(self, state: IntentState, result: dict[str, object]) -> bool:
        with self._shared.connect("barrier") as conn:
            return intents.answer(conn, self._intent, state, result)
