"""The newest full verification of a context, and whether it is good enough to switch on."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from cdc.lsn import format_lsn
from contexts.databases import Database
from contexts.model import Context, Side
from migrator import invariants, suites
from migrator.run import Run
from validations.diff.model import DiffResult, Verdict
from validations.state import parity
from validations.state.store import Verifications

_LAST_SWITCH = sql.SQL("SELECT max(ended_at) FROM carveout.switch WHERE context = %s AND outcome = 'finished'")


@dataclass(frozen=True)
class Proof:
    """A finished full verification and how old its oldest part is."""

    result: DiffResult
    age_s: float

    def to_json(self) -> dict[str, Any]:
        """What ``status`` shows of it."""
        result = self.result
        return {
            "verification": result.verification,
            "verdict": result.verdict,
            "open_side": result.open_side,
            "rows": result.rows,
            "differences": result.differences,
            "tables": len(result.tables),
            "lsn": format_lsn(result.lsn_last) if result.lsn_last is not None else None,
            "age_s": self.age_s,
        }


def latest_proof(run: Run) -> Proof | None:
    """The newest finished full verification; None where there is none."""
    try:
        result = Verifications(run.databases.service, run.name).latest()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    if result is None or result.finished_at is None:
        return None
    now: dt.datetime = run.executor.read(Side.SERVICE, sql.SQL("SELECT clock_timestamp()"))[0][0]
    return Proof(result, (now - (result.oldest_at or result.started_at)).total_seconds())


def why_not_proven(run: Run, open_side: Side) -> str | None:
    """Why the context may not switch away from ``open_side``; None where a full, green, fresh proof allows it."""
    proof, limit_s = latest_proof(run), run.context.options.proof_max_age_s
    if proof is None:
        return "no full verification has been finished"
    result = proof.result
    if reason := why_not_green(run.context, run.databases.service, result):
        return reason
    if result.open_side is not open_side or is_from_before_a_switch(run, result):
        return "the last verification is from before the last switch"
    if proof.age_s > limit_s:
        return f"the last verification is {proof.age_s:.0f} s old (limit {limit_s:.0f} s)"
    compared = {table.table for table in result.tables}
    if missing := [str(table.name) for table in run.tables(open_side) if table.kind != "p"
                   and table.name not in compared]:  # fmt: skip
        return f"the last verification did not compare {', '.join(missing)}"
    return None


def why_not_green(context: Context, service: Database, result: DiffResult) -> str | None:
    """Why a verification did not pass, by what was stored and the invariants and suites as they are now."""
    if result.verdict is not Verdict.EQUAL:
        return f"the last verification says {result.verdict} ({result.differences} differences)"
    if (seen := parity.read(service, result.verification)) and seen.schema:
        return f"the last verification found the schemas different: {seen.schema[0]}"
    held = invariants.why_not_proven(context, service, result.verification)
    return held or suites.why_not_proven(context, service, result.verification)


def is_from_before_a_switch(run: Run, result: DiffResult) -> bool:
    """Whether the sides were the other way round when it began."""
    last = run.executor.read(Side.SHARED, _LAST_SWITCH, (run.name,))[0][0]
    return last is not None and last > result.started_at
