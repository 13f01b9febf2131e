"""The store of what became of the invariants, beside the verifications."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from cdc.lsn import format_lsn, parse_lsn
from contexts import sqlfiles
from contexts.databases import Database
from contexts.model import Side
from validations.invariants.model import Cells, Checked, Invariant, Kind, Outcome, Result, Severity, Violation

_SQL = sqlfiles.load("validations.state", "invariants.sql")


def save(database: Database, verification: int, checked: Checked) -> None:
    """Store all results of a verification in one transaction, in the place of earlier ones."""
    with database.connect("verification") as session, session.transaction(), session.cursor() as cursor:
        cursor.execute(_SQL["forget"], (verification,))
        for result in checked.results:
            one = result.invariant
            declared = (one.kind, one.severity, list(one.sides), one.proves, list(one.key), one.sql)
            cursor.execute(_SQL["add"], (verification, one.name, *declared, format_lsn(checked.lsn), checked.at))
            cursor.executemany(
                _SQL["add_side"], [(verification, one.name, *_side(outcome)) for outcome in result.outcomes]
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
    results = [_result(list(group)) for _, group in groupby(rows, key=itemgetter(0))]
    return Checked(parse_lsn(rows[0][7]), rows[0][8], tuple(results))


def _side(outcome: Outcome) -> tuple[Any, ...]:
    violations = [
        {"key": v.key, "values": v.values}  # lists of pairs: two columns may have one name
        for v in outcome.violations
    ]
    return (outcome.side, outcome.error, outcome.rows, Jsonb(violations), outcome.number, outcome.milliseconds)


def _result(rows: list[tuple[Any, ...]]) -> Result:
    name, proves, text, severity, sides, kind, key, *_ = rows[0]
    invariant = Invariant(name, proves, text, Severity(severity), tuple(map(Side, sides)), Kind(kind), tuple(key))
    return Result(invariant, tuple(_outcome(row[9:]) for row in rows if row[9] is not None))


def _outcome(row: tuple[Any, ...]) -> Outcome:
    side, error, count, violations, number, milliseconds = row
    kept = tuple(Violation(_cells(v["key"]) or (), _cells(v["values"])) for v in violations)
    return Outcome(Side(side), error, count, kept, number, milliseconds)


def _cells(stored: list[list[str | None]] | None) -> Cells | None:
    return None if stored is None else tuple((str(name), value) for name, value in stored)
