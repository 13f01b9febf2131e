"""The suites of a context: run at one barrier, stored beside a verification, shown, and asked for by the switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdc.lsn import format_lsn
from contexts.databases import Database, Databases
from contexts.errors import ConfigError, ExitCode
from contexts.model import Context, Side
from migrator.barriers import WorkerBarriers, at_a_barrier
from migrator.control import migrations
from validations import state
from validations.barrier import Barrier
from validations.snapshots import exported
from validations.state import suites as stored
from validations.state.store import Verifications
from validations.suites import files
from validations.suites.model import Checked, Limits, Outcome, Result, State, Suite, SuiteResult

VERSION = 1
#: Unexpected values that are kept of each expectation where values are asked for.
KEPT_VALUES = 20
Keep = Callable[[Suite, Side | None, list[Any]], None]


@dataclass(frozen=True)
class Suites:
    """What became of the declared suites."""

    #: None where none is declared, or they did not run.
    checked: Checked | None = None
    #: Why declared suites did not run; empty where they did, or none is declared.
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether every declared suite ran and none spoils the proof."""
        return not self.problem and (self.checked is None or self.checked.passed)

    @property
    def exit_code(self) -> ExitCode:
        """DIFFERENCES where an expectation is not met; ERROR where something could only not be answered."""
        if self.passed:
            return ExitCode.DONE
        spoilt = self.checked.spoilt_by if self.checked else []
        return ExitCode.DIFFERENCES if any(r.state is State.NOT_MET for _, r in spoilt) else ExitCode.ERROR


def run(
    context: Context, both: Databases, side: Side | None, *, show_values: bool, data_docs: Path | None = None
) -> Suites:
    """Run the suites by themselves: on both sides, stored beside the last verification, or on one side, not stored.

    :raises ConfigError: there is no suite for that side, a suite cannot be used, or the extra is not installed.
    :raises CarveoutError: no barrier was reached, or a server went away; nothing is stored.
    """
    declared = [suite for suite in files.load(context) if side is None or side in suite.sides]
    if not declared:
        raise ConfigError(
            f"context {context.name!r}: there is no suite in {context.folder / files.FOLDER} to run",
            unchanged="nothing was looked at",
            next_step="write one, or let carveout context new write the first ones",
        )
    if problem := prepare(declared):
        raise ConfigError(problem)
    from validations.suites.docs import DataDocs

    pages = DataDocs(data_docs) if data_docs else None
    keep = pages.keep if pages else _forget
    if side is None:
        checked = on_both(context, both, declared, show_values=show_values, keep=keep)
        _store(context, both, checked)
    else:
        checked = on_one(context, both[side], declared, show_values=show_values, keep=keep)
    if pages:
        pages.write()
    return Suites(checked)


def _forget(_suite: Suite, _side: Side | None, _results: list[Any]) -> None:
    """Keep no results of the library."""


def _store(context: Context, both: Databases, checked: Checked) -> None:
    """Beside the newest verification where it was of the same open side; without one there is nothing to prove yet."""
    with both.shared.connect("suites") as conn:
        migration = migrations.read(conn, context.name)
        detail = {"suites": len(checked.suites), "passed": checked.passed}
        migrations.record(conn, context.name, "suites", detail)
    state.install(both.service)
    latest = Verifications(both.service, context.name).latest(finished=True)
    if latest is not None and latest.open_side is migration.open_side:
        stored.save(both.service, latest.verification, checked)


def run_json(context: Context, found: Suites) -> dict[str, Any]:
    """The documented shape of ``suites run --json``."""
    steps = [] if found.passed else [f"carveout suites run {context.name} --show-values"]
    return {
        "version": VERSION,
        "context": context.name,
        "passed": found.passed,
        "suites": to_json(found.checked),
        "next_steps": steps,
    }


def prepare(declared: Sequence[Suite]) -> str:
    """Load great-expectations, which takes seconds, and let it look at the suites: why they cannot run, or nothing.

    :raises ConfigError: a suite says what great-expectations does not know.
    """
    if not declared:
        return ""
    from validations.suites.run import require
    from validations.suites.vocabulary import check

    try:
        require()
    except ConfigError as missing:
        return f"the suites did not run: {missing.message}: {missing.next_step}"
    check(declared)
    return ""


def on_both(
    context: Context, both: Databases, declared: Sequence[Suite], *, show_values: bool, keep: Keep | None = None
) -> Checked:
    """Run prepared suites on both sides at a barrier of their own.

    :raises CarveoutError: no barrier was reached, or a server went away.
    """
    from validations.suites.run import check

    def ask(barrier: Barrier) -> Checked:
        snapshots = {barrier.open_side: barrier.open, barrier.open_side.other: barrier.closed}
        return check(snapshots, barrier.lsn, declared, _limits(context, show_values), keep or _forget)

    return at_a_barrier(WorkerBarriers(context, both), ask)


def on_one(
    context: Context, database: Database, declared: Sequence[Suite], *, show_values: bool, keep: Keep
) -> Checked:
    """Run prepared suites on one side as it is now; what compares both sides is left out.

    :raises CarveoutError: the server went away.
    """
    from validations.suites.run import check

    wanted = [suite for suite in declared if database.side in suite.sides]
    with exported(database, "suites") as snapshot:
        return check({database.side: snapshot}, None, wanted, _limits(context, show_values), keep)


def why_not_proven(context: Context, service: Database, verification: int) -> str | None:
    """Why the suites forbid a switch: one is not met, or one of today's files was not run as it stands."""
    try:
        declared = files.load(context)
    except ConfigError as error:
        return f"the suites cannot be read: {error.message}"
    checked = stored.read(service, verification)
    for suite, result in checked.spoilt_by if checked else []:
        return f"suite {suite.name}: {result.expectation.type}: {_state(result)}"
    ran = {(one.suite.name, one.suite.digest) for one in checked.suites if not one.spoils} if checked else set()
    for suite in declared:
        if (suite.name, suite.digest) not in ran:
            return f"suite {suite.name} was not run as it is now with the last verification"
    return None


def to_json(checked: Checked | None) -> list[dict[str, Any]]:
    """The documented shape of ``suites``."""
    return [_suite(checked, one) for one in checked.suites] if checked else []


def lines(context: Context, found: Suites) -> list[str]:
    """What a terminal shows."""
    if found.problem:
        return [f"  suites: {found.problem}"]
    checked = found.checked
    if checked is None:
        return [f"  suites: none (there is no file in {context.folder / files.FOLDER})"]
    place = format_lsn(checked.lsn) if checked.lsn is not None else f"{checked.at:%Y-%m-%d %H:%M:%S} UTC"
    shown = [f"  suites: {sum(not one.spoils for one in checked.suites)} of {len(checked.suites)} pass at {place}"]
    for one in checked.suites:
        shown.append(f"    {one.suite.name}: {one.met} of {len(one.results)} expectations of {one.suite.table} are met")
        shown += [f"      {title(result)}: {_state(result)}" for result in one.results if result.state is not State.MET]
    return shown


def title(result: Result) -> str:
    """An expectation in a line: its type and what it is about."""
    about = ", ".join(f"{name}={value}" for name, value in result.expectation.arguments.items())
    return f"{result.expectation.type}({about if len(about) < 100 else about[:97] + '...'})"


def answer(outcome: Outcome) -> str:
    """What one side said."""
    if outcome.error:
        return outcome.error
    counted = "" if outcome.unexpected is None else f"{outcome.unexpected} of {outcome.rows} rows unexpected"
    values = f" ({', '.join(outcome.values)})" if outcome.values else ""
    return ", ".join(part for part in (outcome.observed, counted) if part) + values or str(outcome.state)


def _state(result: Result) -> str:
    answers = "; ".join(f"{outcome.side or 'both sides'}: {answer(outcome)}" for outcome in result.outcomes)
    return f"{result.state} ({result.expectation.severity}): {answers}"


def _limits(context: Context, show_values: bool) -> Limits:
    options = context.options
    return Limits(options.invariant_timeout_s, options.max_snapshot_age_s, KEPT_VALUES if show_values else 0)


def _suite(checked: Checked, one: SuiteResult) -> dict[str, Any]:
    return {
        "name": one.suite.name,
        "table": str(one.suite.table),
        "passed": not one.spoils,
        "met": one.met,
        "lsn": None if checked.lsn is None else format_lsn(checked.lsn),
        "at": checked.at,
        "milliseconds": one.milliseconds,
        "expectations": [_expectation(result) for result in one.results],
    }


def _expectation(result: Result) -> dict[str, Any]:
    one = result.expectation
    return {
        "type": one.type,
        "arguments": dict(one.arguments),
        "description": one.description or None,
        "severity": one.severity,
        "state": result.state,
        "sides": [_outcome(outcome) for outcome in result.outcomes],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "side": outcome.side or "both",
        "state": outcome.state,
        "error": outcome.error or None,
        "rows": outcome.rows,
        "unexpected": outcome.unexpected,
        "observed": outcome.observed or None,
        "values": None if outcome.values is None else list(outcome.values),
    }
