"""The newest full verification of a context, and whether it is good enough to switch on."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from contexts.model import Side
from migrator.run import Run

_LATEST = sql.SQL(
    "SELECT v.id, v.verdict, v.open_side, v.rows, v.differences, v.lsn_last::text, v.started_at, v.finished_at,"
    " extract(epoch FROM clock_timestamp() - coalesce(s.oldest, v.started_at))::float8, s.tables"
    " FROM carveout.verification v CROSS JOIN LATERAL (SELECT min(compared_at) AS oldest,"
    "   count(DISTINCT (table_schema, table_name)) AS tables FROM carveout.verification_segment"
    "   WHERE verification = v.id) s"
    " WHERE v.context = %s AND v.kind = 'full' AND v.finished_at IS NOT NULL ORDER BY v.id DESC LIMIT 1"
)
_LAST_SWITCH = sql.SQL(
    "SELECT ended_at FROM carveout.switch WHERE context = %s AND outcome = 'finished' ORDER BY ended_at DESC LIMIT 1"
)
_KEYS = (
    "id", "verdict", "open_side", "rows", "differences", "lsn", "started_at", "finished_at", "age_s", "tables",
)  # fmt: skip


def latest_proof(run: Run) -> dict[str, Any] | None:
    """What the newest finished full verification saw; None where there is none, or the service side cannot say."""
    try:
        rows = run.executor.read(Side.SERVICE, _LATEST, (run.name,))
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    return dict(zip(_KEYS, rows[0], strict=True)) if rows else None


def why_not_proven(run: Run, open_side: Side) -> str | None:
    """Why the context may not switch away from ``open_side``; None where a full, green, fresh proof allows it."""
    proof = latest_proof(run)
    limit = run.context.options.proof_max_age_s
    if proof is None:
        return "no full verification has been finished"
    if proof["verdict"] != "equal":
        return f"the last verification says {proof['verdict']} ({proof['differences'] or 0} differences)"
    if proof["open_side"] != open_side or _is_from_before_a_switch(run, proof):
        return "the last verification is from before the last switch"
    if proof["age_s"] > limit:
        return f"the last verification is {proof['age_s']:.0f} s old (limit {limit:.0f} s)"
    if proof["tables"] != (expected := sum(table.kind != "p" for table in run.tables(open_side))):
        return f"the last verification compared {proof['tables']} of {expected} tables"
    return None


def _is_from_before_a_switch(run: Run, proof: dict[str, Any]) -> bool:
    rows = run.executor.read(Side.SHARED, _LAST_SWITCH, (run.name,))
    return bool(rows) and rows[0][0] > proof["started_at"]
