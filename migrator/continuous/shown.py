"""What ``status`` says of verifications at work."""

from __future__ import annotations

from typing import Any

import psycopg

from migrator.continuous import ROLE
from migrator.control import locks
from migrator.run import Run
from validations.state.store import Verifications


def verifying(run: Run) -> dict[str, Any] | None:
    """The full verification that is not finished, and whether somebody is at it; None where there is neither."""
    continuous = locks.is_held(run.control, run.name, ROLE)
    store = Verifications(run.databases.service, run.name)
    try:
        latest, running = store.latest(), store.is_running()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        latest, running = None, False
    unfinished = latest if latest and latest.finished_at is None else None
    if not (continuous or running or unfinished):
        return None
    tables = unfinished.tables if unfinished else ()
    return {
        "continuous": continuous,
        "running": running,
        "verification": unfinished.verification if unfinished else None,
        "started_at": unfinished.started_at if unfinished else None,
        "segments_done": sum(table.segments_done for table in tables),
        "segments": sum(table.segments for table in tables),
        "differences": unfinished.differences if unfinished else 0,
    }


def line(found: dict[str, Any]) -> str:
    """The same for a terminal."""
    how = "continuously" if found["continuous"] else "running" if found["running"] else "stopped"
    if found["verification"] is None:
        return f"  verifying: {how}, between two rounds" if found["continuous"] else f"  verifying: {how}"
    return (
        f"  verifying: {how}, {found['segments_done']} of {found['segments']} segments,"
        f" {found['differences']} differences so far"
    )
