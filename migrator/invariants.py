"""The invariants of a verification: run at one barrier, stored beside it, shown, and asked for by the switch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cdc.lsn import format_lsn
from contexts.databases import Database, Databases
from contexts.errors import ConfigError
from contexts.model import Context
from migrator import references
from migrator.barriers import WorkerBarriers, at_a_barrier
from migrator.control import migrations
from validations.barrier import Barrier
from validations.history import replay
from validations.invariants import files
from validations.invariants.model import Checked, Invariant, Limits, Outcome, Result, State, Violation
from validations.invariants.reading import keys
from validations.invariants.run import check
from validations.references.declared import declared as declared_references
from validations.state import invariants as stored


def run(
    context: Context, both: Databases, verification: int, declared: tuple[Invariant, ...], *, show_values: bool
) -> Checked | None:
    """Check invariants and references at a barrier of their own and store the results; None where there are none.

    :raises CarveoutError: no barrier was reached, or a server went away; nothing is stored.
    """
    if not declared and not _made(context):
        return None
    options = context.options
    limits = Limits(options.invariant_timeout_s, options.max_snapshot_age_s, show_values=show_values)

    def ask(barrier: Barrier) -> Checked:
        checked = check(barrier, declared, limits)
        with both.shared.connect("verify") as conn:
            epoch = migrations.read(conn, context.name).epoch
        more = references.check(context, both, barrier, limits)
        more += replay.check(context, epoch, barrier, both.service, limits)
        return replace(checked, results=checked.results + more)

    checked = at_a_barrier(WorkerBarriers(context, both), ask)
    stored.save(both.service, verification, checked)
    return checked


def _made(context: Context) -> tuple[Invariant, ...]:
    """The invariants that follow from the declaration: references and versions."""
    return declared_references(context) + replay.declared(context)


def why_not_proven(context: Context, service: Database, verification: int) -> str | None:
    """Why the invariants forbid a switch: one did not hold, or one of today's files was not run as it stands."""
    try:
        declared = files.load(context) + _made(context)
    except ConfigError as error:
        return f"the invariants cannot be read: {error.message}"
    checked = stored.read(service, verification)
    results = checked.results if checked else ()
    for result in results:  # of a file that is gone by now, too: that verification did not pass
        if result.spoils:
            return f"invariant {result.invariant.name}: {_state(result)}"
    ran = {(result.invariant.name, result.invariant.digest) for result in results}
    for invariant in declared:
        if (invariant.name, invariant.digest) not in ran:
            return f"the last verification did not run invariant {invariant.name} as it is now"
    return None


def to_json(checked: Checked | None) -> list[dict[str, Any]]:
    """The documented shape of ``invariants``."""
    return [_result(checked, result) for result in checked.results] if checked else []


def lines(context: Context, checked: Checked | None) -> list[str]:
    """What a terminal shows."""
    if checked is None:
        return [f"  invariants: none (there is no file in {context.folder / files.FOLDER}, and no reference)"]
    held = sum(result.state is State.HOLDS for result in checked.results)
    shown = [f"  invariants: {held} of {len(checked.results)} hold at {format_lsn(checked.lsn)}"]
    for result in checked.results:
        shown.append(f"    {result.invariant.name}: {_state(result)}")
        shown += [line for outcome in result.outcomes for line in _violations(outcome)]
    return shown


def _violations(outcome: Outcome) -> list[str]:
    shown = [f"      {outcome.side}: {keys(violation)}" for violation in outcome.violations]
    more = outcome.rows - len(outcome.violations)
    return [*shown, f"      {outcome.side}: and {more} more"] if more else shown


def _state(result: Result) -> str:
    """The result in a line; where it does not hold, with what each side answered."""
    numbers = [outcome.number for outcome in result.outcomes]
    if result.state is State.HOLDS:
        return str(result.state) if numbers[0] is None else f"{result.state}: {numbers[0]} on both sides"
    answers = ", ".join(f"{outcome.side}: {_answer(outcome)}" for outcome in result.outcomes)
    return f"{result.state} ({result.invariant.severity}): {answers}"


def _answer(outcome: Outcome) -> str:
    if outcome.error:
        return outcome.error
    return f"{outcome.rows} rows" if outcome.number is None else str(outcome.number)


def _result(checked: Checked, result: Result) -> dict[str, Any]:
    invariant = result.invariant
    return {
        "name": invariant.name,
        "proves": invariant.proves,
        "kind": invariant.kind,
        "severity": invariant.severity,
        "state": result.state,
        "lsn": format_lsn(checked.lsn),
        "at": checked.at,
        "sides": [_outcome(outcome) for outcome in result.outcomes],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "side": outcome.side,
        "error": outcome.error or None,
        "rows": outcome.rows,
        "violations": [_violation(violation) for violation in outcome.violations],
        # A number is text: JSON's numbers would lose cents.
        "number": None if outcome.number is None else str(outcome.number),
        "milliseconds": outcome.milliseconds,
    }


def _violation(violation: Violation) -> dict[str, Any]:
    return {"key": dict(violation.key), "values": dict(violation.values) if violation.values is not None else None}
