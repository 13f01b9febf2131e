"""``verify``: the row diff at barriers of the live stream, and the parity of what surrounds the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cdc.lsn import format_lsn
from cdc.state import position
from contexts.databases import Databases
from contexts.errors import ExitCode
from contexts.model import Context, Side
from migrator import invariants, parity, suites
from migrator.comparing import PROOF, Manner, Told, compare
from migrator.control import migrations
from migrator.control.migrations import Migration, record
from migrator.lifecycle import State, require_state
from migrator.suites import Suites
from validations import state
from validations.diff.model import DiffResult, Extent, Verdict
from validations.invariants import files
from validations.invariants.model import Checked
from validations.invariants.model import State as Held
from validations.parity.finding import Parity
from validations.state import parity as stored_parity
from validations.state import stream as stored_stream
from validations.state import suites as stored_suites
from validations.state.stream import StreamSeen
from validations.suites import files as suite_files

VERSION = 1
NO_SUITES = Suites()
SILENT = Told()


@dataclass(frozen=True)
class Verification:
    """What ``verify`` found."""

    context: Context
    diff: DiffResult
    parity: Parity
    #: None where the context has no invariants, or the comparison was stopped.
    invariants: Checked | None = None
    suites: Suites = NO_SUITES
    #: How much was to be compared, where it was not all.
    sample_percent: float | None = None

    @property
    def schema_differences(self) -> tuple[str, ...]:
        """Differences of the schema, a line each."""
        return self.parity.schema

    @property
    def passed(self) -> bool:
        """All rows compared and equal, the same schema around them, and all that must hold holds."""
        full = self.diff.extent is Extent.FULL
        return full and self._equal and self._invariants_hold and self.suites.passed

    @property
    def exit_code(self) -> ExitCode:
        """ERROR where nothing is found wrong and an invariant or an expectation could not be answered."""
        if self.passed or (self.diff.extent is Extent.SAMPLE and self._equal):
            return ExitCode.DONE
        spoilt = [result.state for result in self.invariants.results if result.spoils] if self.invariants else []
        unanswered = self._equal and all(state is Held.ERROR for state in spoilt)
        wrong = not unanswered or self.suites.exit_code is ExitCode.DIFFERENCES
        return ExitCode.DIFFERENCES if wrong else ExitCode.ERROR

    @property
    def _invariants_hold(self) -> bool:
        return self.invariants is None or self.invariants.passed

    @property
    def _equal(self) -> bool:
        return self.diff.verdict is Verdict.EQUAL and not self.schema_differences


def verify(context: Context, both: Databases, manner: Manner = PROOF, told: Told = SILENT) -> Verification:
    """Compare every row and the schema of both sides, check invariants and suites while writes go on; it is stored.

    :raises ConfigError: a file of an invariant or a suite cannot be used.
    :raises RefusedError: the context is not streaming, or no worker runs.
    :raises CarveoutError: no barrier was reached, or a server failed; finished segments are kept.
    """
    with both.shared.connect("verify") as conn:
        migration = migrations.read(conn, context.name)
    require_state(context.name, migration.state, State.STREAMING, State.LOCKSTEP, State.SWITCHED)
    declared, declared_suites = files.load(context), suite_files.load(context)
    suites_problem = suites.prepare(declared_suites) if manner.sample_percent is None else ""
    state.install(both.service)
    result = compare(context, both, migration, manner, told)
    checked, met = None, Suites(problem=suites_problem)
    if result.finished_at is not None and result.extent is Extent.FULL:
        checked = invariants.run(context, both, result.verification, declared, show_values=manner.show_values)
        if declared_suites and not suites_problem:
            expected = suites.on_both(context, both, declared_suites, show_values=manner.show_values)
            stored_suites.save(both.service, result.verification, expected)
            met = Suites(expected)
    seen = parity.look(context, both, migration.open_side)
    stored_parity.save(both.service, result.verification, seen)
    if result.finished_at is not None:
        _save_stream(both, migration, result)
    found = Verification(context, result, seen, checked, met, manner.sample_percent)
    with both.shared.connect("verify") as conn:
        detail = {"extent": result.extent, "verdict": result.verdict, "passed": found.passed, "rows": result.rows}
        record(conn, context.name, "verify", detail)
    return found


def _save_stream(both: Databases, migration: Migration, result: DiffResult) -> None:
    """Bind the proof to the stream that it was made on."""
    with both[migration.closed_side].connect("verify") as conn:
        stored = position.read(conn, migration.stream)
    if stored is not None:
        stored_stream.save(both.service, result.verification, StreamSeen.at(migration.epoch, stored))


def to_json(found: Verification) -> dict[str, Any]:
    """The documented shape of ``verify --json``."""
    result = found.diff
    return {
        "version": VERSION,
        "context": found.context.name,
        "extent": result.extent,
        "sample_percent": found.sample_percent,
        "passed": found.passed,
        "verdict": result.verdict,
        "verification": result.verification,
        "open_side": result.open_side,
        "started_at": result.started_at,
        "finished_at": result.finished_at,
        "lsn_first": _lsn(result.lsn_first),
        "lsn_last": _lsn(result.lsn_last),
        "rows": result.rows,
        "differences": result.differences,
        "tables": [
            {
                "table": str(table.table),
                "verdict": table.verdict,
                "problem": table.problem or None,
                "rows_open": table.rows_open,
                "rows_closed": table.rows_closed,
                "missing_on_closed": table.missing_on_closed,
                "missing_on_open": table.missing_on_open,
                "different": table.different,
            }
            for table in result.tables
        ],
        "schema_differences": list(found.schema_differences),
        "invariants": invariants.to_json(found.invariants),
        "suites": suites.to_json(found.suites.checked),
        "suites_problem": found.suites.problem or None,
        "next_steps": next_steps(found),
    }


def next_steps(found: Verification) -> list[str]:
    """What leads on from the result."""
    name = found.context.name
    if found.diff.extent is Extent.SAMPLE and not found.diff.differences:
        return [f"carveout verify {name}"]
    if not found.passed:
        steps = [f"carveout differences {name}"] if found.diff.differences else []
        steps += [f"carveout schema check {name}"] if found.schema_differences else []
        if not found.suites.passed or (found.invariants and not found.invariants.passed):
            steps.append(f"carveout verify {name} --show-values")
        return steps or [f"carveout verify {name}"]
    return [f"carveout {'cutover' if found.diff.open_side is Side.SHARED else 'complete'} {name}"]


def lines(found: Verification) -> list[str]:
    """The result as a terminal shows it: the verdict first."""
    result = found.diff
    shown = [
        f"{found.context.name}: {_judgement(found)}: {result.verdict},"
        f" {result.rows} rows of {len(result.tables)} tables at {_lsn(result.lsn_last)},"
        f" {result.differences} differences"
    ]
    for table in result.tables:
        detail = table.problem or (
            f"{table.rows_open} rows; missing on the closed side {table.missing_on_closed},"
            f" on the open side {table.missing_on_open}, different {table.different}"
        )
        shown.append(f"  {table.table}: {table.verdict}: {detail}")
    shown += [f"  schema: {line}" for line in found.schema_differences]
    if result.finished_at is None:
        done, segments = (sum(getattr(table, of) for table in result.tables) for of in ("segments_done", "segments"))
        shown.append(f"  stopped after {done} of {segments} segments: the next verification goes on with the others")
    elif result.extent is Extent.FULL:
        shown += invariants.lines(found.context, found.invariants) + suites.lines(found.context, found.suites)
    return shown + [f"next: {step}" for step in next_steps(found)]


def _judgement(found: Verification) -> str:
    if found.sample_percent is not None:
        return f"SAMPLE of about {found.sample_percent:g} %, NO PROOF"
    return "PASSED" if found.passed else "NOT PASSED"


def _lsn(lsn: int | None) -> str | None:
    return None if lsn is None else format_lsn(lsn)
