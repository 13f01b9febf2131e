"""``report``: gathers what both databases keep of a migration and its proof."""

from __future__ import annotations

import datetime as dt
from itertools import islice
from typing import Any

import psycopg

from contexts import sqlfiles
from contexts.catalog import Table, read_tables
from contexts.model import Context, Side, TableName
from migrator import invariants, rules, suites
from migrator import verify as verifying
from migrator.control import samples, switches
from migrator.lockstep import findings
from migrator.proof import why_not_green, why_not_proven
from migrator.run import Run
from migrator.verify import Verification
from validations.diff.model import DiffResult
from validations.parity.finding import Parity
from validations.report.model import Event, Report, Sample, Switch
from validations.state import invariants as stored_invariants
from validations.state import parity as stored_parity
from validations.state import suites as stored_suites
from validations.state.store import Verifications

VERSION = 1
#: Differing keys that a report holds; ``carveout differences`` lists all.
MOST_DIFFERENCES = 100
_SQL = sqlfiles.load("migrator", "report.sql")


def gather(run: Run) -> Report:
    """The report of a context from stored results; compares nothing, changes nothing."""
    migration, service = run.migration(), run.databases.service
    store = Verifications(service, run.name)
    result = _latest(store)
    number = result.verification if result else None
    return Report(
        context=run.name,
        description=run.context.description,
        made_at=dt.datetime.now(dt.UTC),
        state=migration.state,
        open_side=migration.open_side,
        epoch=migration.epoch,
        verification=result,
        problem=_problem(run, result),
        no_switch_because=why_not_proven(run, migration.open_side) if migration.state.streams else None,
        invariants=stored_invariants.read(service, number) if number is not None else None,
        suites=stored_suites.read(service, number) if number is not None else None,
        parity=stored_parity.read(service, number) if number is not None else None,
        differences=tuple(islice(store.differences(number), MOST_DIFFERENCES)) if number is not None else (),
        rules=run.context.rules,
        violations=tuple(rules.read(run.databases, run.name)),
        lockstep=findings.summary(run.control, run.executor.connection(Side.SERVICE), run.name),
        switches=tuple(_switch(*row) for row in _rows(run, "switches")),
        events=tuple(Event(*row) for row in _rows(run, "events")),
        sizes={name: table.bytes for name, table in _tables(run, migration.open_side).items()},
        samples=tuple(
            Sample(one.at, one.phase, one.lag_s, one.lag_bytes, one.rows_per_s)
            for one in samples.read(run.control, run.name)
        ),
    )


def to_json(context: Context, report: Report) -> dict[str, Any]:
    """The documented shape of ``report --json``."""
    result = report.verification
    proof = None
    if result is not None:
        found = Verification(context, result, report.parity or Parity(), report.invariants)
        shown = verifying.to_json(found)
        proof = {key: shown[key] for key in shown if key not in _ELSEWHERE}
        for one, told in zip(result.tables, proof["tables"], strict=True):
            told |= {"bytes": report.sizes.get(one.table), "method": one.method, "segments": one.segments,
                     "segments_done": one.segments_done}  # fmt: skip
    return {
        "version": VERSION,
        "context": report.context,
        "description": report.description,
        "made_at": report.made_at,
        "passed": report.passed,
        "problem": report.problem,
        "state": report.state,
        "open_side": report.open_side,
        "epoch": report.epoch,
        "not_proven_because": report.no_switch_because,
        "verification": proof,
        "invariants": [
            {**shown, "sql": result.invariant.sql}
            for shown, result in zip(invariants.to_json(report.invariants), _results(report), strict=True)
        ],
        "suites": suites.to_json(report.suites),
        "parity": _parity(report.parity),
        "rules": [rules.violation(one) for one in report.violations],
        "lockstep": report.lockstep,
        "switches": [_switch_json(switch) for switch in report.switches],
        "next_steps": [f"carveout status {report.context}"],
        "samples": [_sample(one) for one in report.samples],
        "events": [{"at": e.at, "actor": e.actor, "kind": e.kind, "detail": e.detail} for e in report.events],
    }


#: Keys of ``verify --json`` that the report has in another place.
_ELSEWHERE = frozenset({"version", "context", "passed", "next_steps", "schema_differences", "invariants", "suites",
                        "suites_problem"})  # fmt: skip


def _tables(run: Run, side: Side) -> dict[TableName, Table]:
    return read_tables(run.executor.connection(side), run.context.table_names)


def _latest(store: Verifications) -> DiffResult | None:
    try:
        return store.latest()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None


def _problem(run: Run, result: DiffResult | None) -> str | None:
    if result is None:
        return "nothing was verified yet"
    if result.finished_at is None:
        return "the last verification was not finished"
    return why_not_green(run.context, run.databases.service, result)


def _rows(run: Run, query: str) -> list[tuple[Any, ...]]:
    try:
        return run.control.execute(_SQL[query], (run.name,)).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return []


def _results(report: Report) -> tuple[Any, ...]:
    return report.invariants.results if report.invariants else ()


def _parity(parity: Parity | None) -> dict[str, list[str]] | None:
    if parity is None:
        return None
    return {"schema": list(parity.schema), "sequences": list(parity.sequences), "grants": list(parity.grants)}


def _switch(
    from_side: str, to_side: str, outcome: str, began: dt.datetime, ended: dt.datetime | None,
    measured: dict[str, Any], reason: str | None,
) -> Switch:  # fmt: skip
    counted, parts = switches.split(measured)
    blocked_ms, changed, rechecked, missed = counted.values()
    return Switch(
        Side(from_side), Side(to_side), outcome, began, ended, blocked_ms, parts, changed, rechecked, missed, reason
    )


def _sample(one: Sample) -> dict[str, Any]:
    return {"at": one.at, "phase": one.phase, "lag_s": one.lag_s, "lag_bytes": one.lag_bytes,
            "rows_per_s": one.rows_per_s}  # fmt: skip


def _switch_json(switch: Switch) -> dict[str, Any]:
    return {
        "from": switch.from_side,
        "to": switch.to_side,
        "outcome": switch.outcome,
        "started_at": switch.started_at,
        "ended_at": switch.ended_at,
        "write_block_ms": switch.blocked_ms,
        "breakdown_ms": dict(switch.parts),
        "changed_keys": switch.changed_keys,
        "rechecked_keys": switch.rechecked_keys,
        "not_rechecked": switch.not_rechecked,
        "reason": switch.reason,
    }
