"""A barrier intent as the stream sees it."""

from __future__ import annotations

import dataclasses
import logging

import psycopg

from cdc.worker.signals import BarrierSnapshots
from contexts.databases import Database
from migrator.control import intents
from migrator.control.intents import Intent, IntentState

_log = logging.getLogger(__name__)


class IntentBarrier:
    """Answers a barrier intent; its requester settles the intent when the snapshots are imported."""

    def __init__(self, shared: Database, intent: Intent) -> None:
        self._shared = shared
        self._intent = intent

    def reached(self, snapshots: BarrierSnapshots) -> bool:
        """Hand the snapshots over; False where the request was cancelled."""
        return self._answer(IntentState.ACCEPTED, dataclasses.asdict(snapshots))

    def failed(self, reason: str) -> None:
        """Settle the intent as failed."""
        self._answer(IntentState.FAILED, {"reason": reason})

    def is_released(self) -> bool:
        """Whether the requester has settled the intent, or cannot be asked any more."""
        try:
            with self._shared.connect("barrier") as conn:
                return intents.read(conn, self._intent.id).state is not IntentState.ACCEPTED
        except psycopg.Error:
            return True

    def _answer(self, state: IntentState, result: dict[str, object]) -> bool:
        with self._shared.connect("barrier") as conn:
            return intents.answer(conn, self._intent, state, result)
