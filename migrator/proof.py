"""The newest full verification of a context, and whether it is good enough to switch on."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from cdc.lsn import format_lsn
from cdc.state import decisions, position
from contexts.databases import Database
from contexts.model import Context, Side
from migrator import invariants, suites
from migrator.run import Run
from validations.diff.model import DiffResult, Verdict
from validations.diff.run import both_fingerprints
from validations.state import parity, stream
from validations.state.store import Verifications
from validations.state.stream import StreamSeen

_LAST_SWITCH = sql.SQL("SELECT max(ended_at) FROM carveout.switch WHERE context = %s AND outcome = 'finished'")


@dataclass(frozen=True)
class Proof:
    """A finished full verification and how old its oldest part is, in seconds."""

    result: DiffResult
    age_s: float
    #: Older than this it allows no switch.
    max_age_s: float

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
            "max_age_s": self.max_age_s,
            "segments": sum(table.segments for table in result.tables),
            "segments_done": sum(table.segments_done for table in result.tables),
            "schema_fingerprint": result.schema_fingerprint,
        }


def latest_proof(run: Run) -> Proof | None:
    """The newest finished full verification; None where there is none."""
    try:
        result = Verifications(run.databases.service, run.name).latest(finished=True)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    if result is None or result.finished_at is None:
        return None
    now: dt.datetime = run.executor.read(Side.SERVICE, sql.SQL("SELECT clock_timestamp()"))[0][0]
    age_s = (now - (result.oldest_at or result.started_at)).total_seconds()
    return Proof(result, age_s, run.context.options.proof_max_age_s)


def why_not_proven(run: Run, open_side: Side) -> str | None:
    """Why the context may not switch away from ``open_side``; None where a full, green, fresh proof allows it."""
    proof = latest_proof(run)
    if proof is None:
        return "no full verification has been finished"
    result = proof.result
    if reason := why_not_green(run.context, run.databases.service, result):
        return reason
    if found := Verifications(run.databases.service, run.name).found_since(result.verification):
        return f"a later comparison found {found} differences; only a new full verification clears that"
    if result.open_side is not open_side or is_from_before_a_switch(run, result):
        return "the last verification is from before the last switch"
    if _is_from_before_a_decision(run, open_side, result):
        return "the last verification is from before a record was left out or replaced (carveout stream list)"
    if proof.age_s > proof.max_age_s:
        return f"the last verification is {proof.age_s:.0f} s old (limit {proof.max_age_s:.0f} s)"
    return _why_not_whole(run, open_side, result) or _why_another_stream(run, open_side, result)


def _why_not_whole(run: Run, open_side: Side, result: DiffResult) -> str | None:
    """Whether it compared all tables, in the shape that they have now."""
    compared = {table.table for table in result.tables}
    if missing := [str(table.name) for table in run.tables(open_side) if table.kind != "p"
                   and table.name not in compared]:  # fmt: skip
        return f"the last verification did not compare {', '.join(missing)}"
    ours, theirs = ({table.name: table for table in run.tables(side)} for side in (open_side, open_side.other))
    if both_fingerprints(ours, theirs) != result.schema_fingerprint:
        return "the tables have another shape than at the last verification"
    return None


def _why_another_stream(run: Run, open_side: Side, result: DiffResult) -> str | None:
    """Whether the stream that is applied now is the one that was proven, and has not been set back."""
    proven = stream.read(run.databases.service, result.verification)
    if proven is None:
        return "the last verification was not finished as a whole"
    with run.databases[open_side.other].connect("proof") as conn:
        epoch = run.migration().epoch
        stored = position.read(conn, run.migration().stream)
    if stored is None:
        return f"no position of stream {epoch} is stored on the {open_side.other} side"
    now = StreamSeen.at(epoch, stored)
    if not proven.is_same(now):
        return (
            f"the last verification is of another stream: slot {proven.slot} of system {proven.system_identifier},"
            f" timeline {proven.timeline}; now it is {now.slot} of {now.system_identifier}, timeline {now.timeline}"
        )
    if now.end_lsn < proven.end_lsn:
        return (
            f"the {open_side.other} side was set back: the last verification saw it at {format_lsn(proven.end_lsn)},"
            f" now it is at {format_lsn(now.end_lsn)}"
        )
    return None


def _is_from_before_a_decision(run: Run, open_side: Side, result: DiffResult) -> bool:
    if run.context.source == "embedded":
        return False
    decided = decisions.read(run.executor.connection(open_side.other), run.migration().stream)
    return any(decision.decided_at > result.started_at for decision in decided)


def why_not_green(context: Context, service: Database, result: DiffResult) -> str | None:
    """Why a verification did not pass, by what was stored and the invariants and suites as they are now."""
    if result.verdict is not Verdict.EQUAL:
        return f"the last verification says {result.verdict} ({result.differences} differences)"
    seen = parity.read(service, result.verification)
    if seen is None:
        return "the last verification did not look at the schema"
    if seen.schema:
        return f"the last verification found the schemas different: {seen.schema[0]}"
    held = invariants.why_not_proven(context, service, result.verification)
    return held or suites.why_not_proven(context, service, result.verification)


def is_from_before_a_switch(run: Run, result: DiffResult) -> bool:
    """Whether the sides were the other way round when it began."""
    last = run.executor.read(Side.SHARED, _LAST_SWITCH, (run.name,))[0][0]
    return last is not None and last > result.started_at
