"""The store of what became of the suites, beside the verifications."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from cdc.lsn import format_lsn, parse_lsn
from contexts import sqlfiles
from contexts.databases import Database
from contexts.model import Side, TableName
from validations.suites.model import Checked, Expectation, Outcome, Result, Severity, Suite, SuiteResult

_SQL = sqlfiles.load("validations.state", "suites.sql")


def save(database: Database, verification: int, checked: Checked) -> None:
    """Store all results of both sides with a verification in one transaction, in the place of earlier ones."""
    assert checked.lsn is not None
    with database.connect("verification") as session, session.transaction(), session.cursor() as cursor:
        cursor.execute(_SQL["forget"], (verification,))
        for one in checked.suites:
            suite = one.suite
            declared = (suite.name, *suite.table, suite.text, list(suite.sides), suite.may_be_empty)
            place = (one.milliseconds, format_lsn(checked.lsn), checked.at)
            cursor.execute(_SQL["add"], (verification, *declared, *place))
            cursor.executemany(
                _SQL["add_expectation"],
                [(verification, suite.name, number, *_row(result)) for number, result in enumerate(one.results)],
            )


def read(database: Database, verification: int) -> Checked | None:
    """What was stored for a verification; None where nothing was, or the tables are of an earlier revision."""
    with database.connect("verification") as session:
        try:
            rows = session.execute(_SQL["read"], (verification,)).fetchall()
        except psycopg.errors.UndefinedTable:
            return None
    if not rows:
        return None
    suites = [_suite(list(group)) for _, group in groupby(rows, key=itemgetter(0))]
    return Checked(parse_lsn(rows[0][7]), rows[0][8], tuple(suites))


def _row(result: Result) -> tuple[Any, ...]:
    one = result.expectation
    outcomes = [asdict(outcome) for outcome in result.outcomes]
    return (one.type, Jsonb(dict(one.arguments)), one.severity, one.description, Jsonb(outcomes))


def _suite(rows: list[tuple[Any, ...]]) -> SuiteResult:
    name, schema, table, text, sides, may_be_empty, milliseconds, *_ = rows[0]
    results = [
        Result(Expectation(type, arguments, Severity(severity), description), tuple(map(_outcome, outcomes)))
        for *_, type, arguments, severity, description, outcomes in rows if type is not None
    ]  # fmt: skip
    expectations = tuple(result.expectation for result in results)
    suite = Suite(name, TableName(schema, table), text, expectations, tuple(map(Side, sides)), may_be_empty)
    return SuiteResult(suite, tuple(results), milliseconds)


def _outcome(stored: dict[str, Any]) -> Outcome:
    side, values = stored.pop("side"), stored.pop("values")
    return Outcome(Side(side) if side else None, values=None if values is None else tuple(values), **stored)
