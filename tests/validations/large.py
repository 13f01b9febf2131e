"""The report of a context with many tables, each with a suite, and a long history."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal

from contexts.model import Side, TableName
from tests.validations.test_report import AT, report
from validations.diff.model import Method, TableResult
from validations.invariants.model import Checked, Invariant, Kind, Outcome, Result
from validations.report.model import Event, Report, Sample
from validations.suites.model import Checked as Suites
from validations.suites.model import Expectation, Suite, SuiteResult
from validations.suites.model import Outcome as Asked
from validations.suites.model import Result as Expected

EXPECTATIONS = 10
SAMPLES = 1_000
EVENTS = 300


def large(tables: int) -> Report:
    """One of so many tables."""
    names = [TableName("shop", f"table_{number:03}_of_the_shop") for number in range(tables)]
    given = report()
    assert given.verification is not None
    results = tuple(TableResult(name, Method.RANGES, "", 12, 12, 1_234_567, 1_234_567, 0, 0, 0) for name in names)
    samples = tuple(
        Sample(AT + dt.timedelta(seconds=60 * n), "streaming", n % 17 / 10, 1_000, 900.0 + n % 31)
        for n in range(SAMPLES)
    )
    events = tuple(Event(AT + dt.timedelta(minutes=n), "operator", "verify", {"passed": True}) for n in range(EVENTS))
    return replace(
        given, verification=replace(given.verification, tables=results), invariants=_invariants(names),
        suites=Suites(1, AT, tuple(map(_suite, names))), sizes=dict.fromkeys(names, 123_456_789), samples=samples,
        events=events,
    )  # fmt: skip


def _invariants(names: list[TableName]) -> Checked:
    text = "SELECT sum(amount)\nFROM {}\nWHERE state <> 'gone'\n"
    found = [
        Result(Invariant(f"total_{n}", f"the total of {name}", text.format(name), kind=Kind.NUMBER),
               tuple(Outcome(side, number=Decimal("1234567.89"), milliseconds=40.0) for side in Side))
        for n, name in enumerate(names)
    ]  # fmt: skip
    return Checked(1, AT, tuple(found))


def _suite(name: TableName) -> SuiteResult:
    expectations = tuple(
        Expectation("expect_column_values_to_not_be_null", {"column": f"column_{n}"}) for n in range(EXPECTATIONS)
    )
    counted = tuple(Asked(side, "", True, 1_234_567, 0) for side in Side)
    results = tuple(Expected(one, counted) for one in expectations)
    return SuiteResult(Suite(str(name), name, "{}", expectations), results, 310.0)
