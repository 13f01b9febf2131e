"""The worker's report: what ``status`` shows of it."""

from __future__ import annotations

import datetime as dt
import os
import socket
import uuid
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from contexts.databases import Connection


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """The last report of a context's worker."""

    owner: uuid.UUID
    host: str
    pid: int
    started_at: dt.datetime
    #: Seconds since the report, by the shared server's clock.
    age_s: float
    report: dict[str, Any]


def publish(conn: Connection, context: str, owner: uuid.UUID, started_at: dt.datetime, report: dict[str, Any]) -> None:
    """Store the report of this process, replacing the last one."""
    conn.execute(
        "INSERT INTO carveout.worker (context, owner, host, pid, started_at, seen_at, report)"
        " VALUES (%s, %s, %s, %s, %s, clock_timestamp(), %s) ON CONFLICT (context) DO UPDATE SET"
        " owner = excluded.owner, host = excluded.host, pid = excluded.pid, started_at = excluded.started_at,"
        " seen_at = excluded.seen_at, report = excluded.report",
        (context, owner, socket.gethostname(), os.getpid(), started_at, Jsonb(report)),
    )


def read(conn: Connection, context: str) -> WorkerReport | None:
    """The last report, or None where no worker ever ran."""
    row = conn.execute(
        "SELECT owner, host, pid, started_at, extract(epoch FROM clock_timestamp() - seen_at)::float8, report"
        " FROM carveout.worker WHERE context = %s",
        (context,),
    ).fetchone()
    return WorkerReport(*row) if row else None


def standby_name(context: str) -> str:
    """The purpose of the session that a worker holds while it waits for the work."""
    return f"worker-standby/{context}"


def standing_by(conn: Connection, context: str) -> int:
    """How many workers of the context's group wait for the work."""
    row = conn.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = %s::name::text AND datname = current_database()",
        (f"carveout/{standby_name(context)}",),
    ).fetchone()
    assert row is not None
    return int(row[0])
