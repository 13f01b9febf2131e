"""Samples of a worker's lag and rate, kept for the report; bounded, however long a migration takes."""

from __future__ import annotations

import datetime as dt
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from contexts import sqlfiles
from contexts.databases import Connection

#: Seconds between two samples while they are new.
EVERY_S = 5.0
#: Samples of a context; beyond that the older half is merged by pairs.
MOST = 1_000
_SQL = sqlfiles.load("migrator.control", "samples.sql")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a worker measured up to a moment."""

    at: dt.datetime
    #: ``copying`` or ``streaming``.
    phase: str
    #: The worst since the sample before; None while nothing streams.
    lag_s: float | None
    lag_bytes: int | None
    #: The mean since the sample before; None for a worker's first.
    rows_per_s: float | None


class Sampler:
    """Takes the reports of one worker and keeps one sample in :data:`EVERY_S`."""

    def __init__(self, context: str) -> None:
        self._context = context
        self._phase = ""
        self._taken_at = 0.0
        self._rows = 0
        self._lag_s: float | None = None
        self._lag_bytes: int | None = None

    def take(self, conn: Connection, report: dict[str, Any]) -> None:
        """Look at a report; store a sample where it is time for one."""
        phase = report["phase"]
        if phase not in ("copying", "streaming"):
            return
        now, rows = time.monotonic(), _rows(report)
        if phase != self._phase or rows < self._rows:  # counted anew
            self._begin(phase, now, rows)
        self._lag_s = _worse(self._lag_s, report.get("lag_s"))
        self._lag_bytes = _worse(self._lag_bytes, report.get("lag_bytes"))
        if now - self._taken_at < EVERY_S:
            return
        rate = (rows - self._rows) / (now - self._taken_at)
        measured = {"phase": phase, "lag_s": self._lag_s, "lag_bytes": self._lag_bytes, "rows_per_s": rate}
        add(conn, self._context, measured)
        self._begin(phase, now, rows)

    def _begin(self, phase: str, now: float, rows: int) -> None:
        self._phase, self._taken_at, self._rows = phase, now, rows
        self._lag_s = self._lag_bytes = None


def add(conn: Connection, context: str, measured: dict[str, Any]) -> None:
    """Store one sample, and merge older ones where there are too many."""
    # A control schema of an earlier revision has no such table: no sample is no reason to stop.
    with suppress(psycopg.errors.UndefinedTable), conn.transaction():
        conn.execute(_SQL["add"], {"context": context, **measured})
        row = conn.execute(_SQL["count"], (context,)).fetchone()
        if row is not None and row[0] > MOST:
            conn.execute(_SQL["thin"], {"context": context})


def read(conn: Connection, context: str) -> list[Sample]:
    """All samples of a context, the oldest first; none where the control schema has no such table yet."""
    try:
        return [Sample(*row) for row in conn.execute(_SQL["read"], (context,)).fetchall()]
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return []


def _rows(report: dict[str, Any]) -> int:
    """Rows that are behind the worker in its phase."""
    if report["phase"] == "copying":
        return int((report.get("copy") or {}).get("rows") or 0)
    return int(report.get("rows") or 0)


def _worse(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else max(one, other)
