"""The section of the suites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contexts.model import Side
from validations.report.markup import Markup, join, table, tag
from validations.report.sections import lsn, mark, section, time
from validations.suites.model import Checked, Outcome, Result, State, SuiteResult

#: Longer ones, as lists of values may be, are cut: the whole stands in the context's files and in the JSON.
_LONGEST = 300


def suites(checked: Checked | None) -> Markup:
    """Each suite with its expectations and what the sides answered."""
    if checked is None:
        return section("Suites", tag("p", "None was run with this verification."))
    passed = sum(not one.spoils for one in checked.suites)
    said = f"{passed} of {len(checked.suites)} pass, at {lsn(checked.lsn)}, {time(checked.at)}."
    return section("Suites", tag("p", said), *[_suite(one) for one in checked.suites])


def _suite(one: SuiteResult) -> Markup:
    state = f"{one.met} of {len(one.results)} met"
    rows = [_row(result) for result in one.results]
    head = ("state", "expectation", "about", "shared", "service")
    return join([
        tag("h3", mark(not one.spoils, state), f" {one.suite.name}, of {one.suite.table}"),
        table(head, rows),
    ])  # fmt: skip


def _row(result: Result) -> tuple[Markup | str, ...]:
    one = result.expectation
    word = f"{result.state.replace('_', ' ')}{'' if one.severity.spoils else f' ({one.severity})'}"
    about = _about(one.arguments) + (f" ({one.description})" if one.description else "")
    return (mark(result.state is State.MET, word), _words(one.type), about, *_answers(result))


def _words(type: str) -> str:
    return type.removeprefix("expect_").replace("_", " ")


def _about(arguments: Mapping[str, Any]) -> str:
    text = "; ".join(f"{name}: {value}" for name, value in arguments.items())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _answers(result: Result) -> list[str]:
    by_side = {outcome.side: outcome for outcome in result.outcomes}
    both = by_side.get(None)
    if both is not None:
        return [_answer(both), "compared with it"]
    return [_answer(by_side[side]) if side in by_side else "not asked" for side in Side]


def _answer(outcome: Outcome) -> str:
    if outcome.error:
        return f"error: {outcome.error}"
    counted = "" if outcome.unexpected is None else f"{outcome.unexpected:,} of {outcome.rows or 0:,} rows"
    values = ", ".join(outcome.values or ())
    return "; ".join(part for part in (outcome.observed, counted, values) if part) or str(outcome.state)
