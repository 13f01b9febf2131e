"""What the audit and the census have stored on the service side."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass
from typing import Any

import psycopg

from contexts.databases import Connection


@dataclass(frozen=True)
class Writer:
    """Somebody who committed writes without the shim."""

    table: str
    role: str
    application: str
    transactions: int
    last_seen: dt.datetime


def is_used(service: Connection, context: str) -> bool:
    """Whether the context has ever been prepared for lockstep."""
    try:
        row = service.execute("SELECT EXISTS (SELECT FROM carveout.lockstep WHERE context = %s)", (context,)).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return False
    return bool(row and row[0])


def audited(service: Connection, context: str) -> int:
    """How many transactions of the stream were compared with the ledger."""
    row = service.execute("SELECT audited FROM carveout.lockstep WHERE context = %s", (context,)).fetchone()
    return int(row[0]) if row else 0


def found(service: Connection, context: str) -> int:
    """How many differences the audit has ever found."""
    row = service.execute("SELECT count(*) FROM carveout.lockstep_difference WHERE context = %s", (context,)).fetchone()
    return int(row[0]) if row else 0


def unrepaired(service: Connection, context: str) -> int:
    """How many differences of the audit stand."""
    row = service.execute(
        "SELECT count(*) FROM carveout.lockstep_difference WHERE context = %s AND repaired_at IS NULL", (context,)
    ).fetchone()
    return int(row[0]) if row else 0


def mendable(service: Connection, context: str) -> bool:
    """Whether some of them name a row."""
    row = service.execute(
        "SELECT EXISTS (SELECT FROM carveout.lockstep_difference"
        " WHERE context = %s AND repaired_at IS NULL AND key <> '{}')", (context,)
    ).fetchone()  # fmt: skip
    return bool(row and row[0])


def writers(service: Connection, context: str) -> list[Writer]:
    """Who wrote without the shim, the latest first."""
    rows = service.execute(
        "SELECT table_schema || '.' || table_name, role, application, transactions, last_seen"
        " FROM carveout.unshimmed_writer WHERE context = %s ORDER BY last_seen DESC",
        (context,),
    )
    return [Writer(*row) for row in rows]


def shadow_reads(service: Connection, context: str) -> list[dict[str, Any]]:
    """The statements that shims have run on both sides, those that differed first."""
    rows = service.execute(
        "SELECT statement, runs, differences, errors, undecided, shared_ms / runs, service_ms / runs,"
        " last_difference_at FROM carveout.shadow_read WHERE context = %s"
        " ORDER BY differences DESC, runs DESC LIMIT 20",
        (context,),
    )
    names = ("statement", "runs", "differences", "errors", "undecided", "shared_ms", "service_ms", "last_difference_at")
    return [dict(zip(names, row, strict=True)) for row in rows]


def forget_writers(service: Connection, context: str) -> None:
    """Begin the census anew."""
    service.execute("DELETE FROM carveout.unshimmed_writer WHERE context = %s", (context,))


def summary(shared: Connection, service: Connection, context: str) -> dict[str, Any] | None:
    """How the context is written, for ``status``; None where nobody has asked for lockstep yet."""
    row = shared.execute("SELECT mode, service_reads FROM carveout.route WHERE context = %s", (context,)).fetchone()
    mode, share = row or ("single", 0.0)
    if mode == "single" and not is_used(service, context):
        return None
    prepared = service.execute(
        "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database() AND starts_with(gid, %s)",
        (f"carveout:{context}:",),
    ).fetchone()
    return {
        "mode": mode,
        "service_reads": share,
        "audited": audited(service, context),
        "found": found(service, context),
        "differences": unrepaired(service, context),
        "prepared": prepared[0] if prepared else 0,
        "shadow_reads": shadow_reads(service, context),
        "unshimmed": [dataclasses.asdict(writer) for writer in writers(service, context)],
    }
