"""The way back while nobody goes it: whether a rollback is possible, and why not."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from cdc.lsn import format_lsn
from cdc.names import slot_name
from cdc.source.slots import SlotStatus, slot_status
from cdc.state import position
from contexts.errors import CarveoutError
from contexts.model import Side
from migrator.control import locks, workers
from migrator.control.migrations import Migration
from migrator.lifecycle import State
from migrator.run import Run

_SWITCHED_AT = sql.SQL(
    "SELECT max(ended_at) FROM carveout.switch WHERE context = %s AND to_side = 'service' AND outcome = 'finished'"
)


@dataclass(frozen=True, slots=True)
class WayBack:
    """How the reverse stream is."""

    #: Why a rollback is not possible any more; None where it is.
    lost_because: str | None
    wal_status: str | None
    #: Log that the service server keeps for it.
    kept_bytes: int | None
    #: End of the window that ``reverse_window_h`` gives; None where it has no end.
    until: dt.datetime | None
    window_is_over: bool

    def to_json(self) -> dict[str, Any]:
        """What ``status`` shows."""
        return {
            "possible": self.lost_because is None,
            "lost_because": self.lost_because,
            "wal_status": self.wal_status,
            "kept_bytes": self.kept_bytes,
            "until": self.until,
            "window_is_over": self.window_is_over,
        }


def way_back(run: Run, migration: Migration) -> WayBack | None:
    """The reverse stream's health; None where the context is not cut over, or the service side cannot be asked."""
    if migration.state is not State.SWITCHED:
        return None
    try:
        slot = slot_status(run.executor.connection(Side.SERVICE), slot_name(migration.stream))
    except (psycopg.Error, CarveoutError):
        return None
    until = window_end(run)
    now: dt.datetime = run.executor.read(Side.SHARED, sql.SQL("SELECT clock_timestamp()"))[0][0]
    reason = _lost(run, migration, slot)
    return WayBack(reason, slot.wal_status, slot.lag_bytes, until, until is not None and now > until)


def window_end(run: Run) -> dt.datetime | None:
    """When the window for going back ends."""
    hours = run.context.options.reverse_window_h
    switched_at = run.executor.read(Side.SHARED, _SWITCHED_AT, (run.name,))[0][0]
    return switched_at + dt.timedelta(hours=hours) if hours and switched_at else None


def _lost(run: Run, migration: Migration, slot: SlotStatus) -> str | None:
    if not slot.exists:
        return f"slot {slot.name!r} is gone from the service side, and the changes since then with it"
    if slot.wal_status == "lost" or slot.invalidation_reason:
        return f"the service server gave slot {slot.name!r} up ({slot.invalidation_reason or 'lost'})"
    stored = position.read(run.control, migration.stream)
    if stored is None:
        return f"the shared side has no position of stream {migration.epoch}"
    confirmed = slot.confirmed_flush_lsn
    if run.context.source == "embedded" and confirmed and confirmed > stored.end_lsn:
        return (
            f"slot {slot.name!r} is at {format_lsn(confirmed)}, past what the shared side has"
            f" ({format_lsn(stored.end_lsn)}): it was made anew or moved"
        )
    report = workers.read(run.control, run.name)
    if report and report.report.get("error") and not locks.is_held(run.control, run.name, "worker"):
        return f"the worker stopped: {report.report['error']}"
    return None
