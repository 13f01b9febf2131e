"""Runs one invariant on one session that sees a barrier's snapshot."""

from __future__ import annotations

import time
from decimal import Decimal

import psycopg
from psycopg import sql

from contexts.databases import Connection
from contexts.errors import CarveoutError
from contexts.model import Side
from validations.invariants.model import Cells, Invariant, Kind, Limits, Outcome, Violation

#: int8, int2, int4, numeric: sums of floats depend on the order of the rows, so they prove nothing.
_EXACT = frozenset({20, 21, 23, 1700})
_DATA_EXCEPTION = "22"
_CURSOR = sql.Identifier("carveout_invariant")


class SideGone(CarveoutError):
    """A server went away while invariants were checked."""

    transient = True


class _NoAnswer(Exception):
    """The statement ran, and what it answered cannot be judged."""


def outcome(session: Connection, side: Side, invariant: Invariant, limits: Limits, left_s: float) -> Outcome:
    """What the side answers; the session's transaction goes on whatever happens.

    :param left_s: seconds that are left for all invariants.
    :raises SideGone: the session is lost.
    """
    began, limit_s = time.monotonic(), min(limits.statement_s, left_s)
    error, found = "", Outcome(side)
    if limit_s <= 0:
        return Outcome(side, f"no time was left: all invariants may take {limits.all_s:g} s")
    try:
        with session.transaction():  # a savepoint: an error must not end the snapshot
            timeout = f"{max(1, int(limit_s * 1000))}ms"
            session.execute("SELECT set_config('statement_timeout', %s, true)", (timeout,))
            found = _answer(session, side, invariant, limits)
    except _NoAnswer as unusable:
        error = str(unusable)
    except psycopg.Error as failed:
        if session.closed or failed.sqlstate is None:
            raise SideGone(
                f"the {side} side went away in invariant {invariant.name}: {' '.join(str(failed).split())}",
                unchanged="no result of the invariants was stored",
                next_step="run the verification again",
            ) from failed
        error = _reason(failed, limits, limit_s)
    milliseconds = (time.monotonic() - began) * 1000
    return Outcome(side, error, found.rows, found.violations, found.number, milliseconds)


def _answer(session: Connection, side: Side, invariant: Invariant, limits: Limits) -> Outcome:
    declare = sql.SQL("DECLARE {} NO SCROLL CURSOR FOR ").format(_CURSOR) + sql.SQL(invariant.sql)
    # Only a query can follow, and only one: asking for a binary answer makes psycopg take the extended protocol,
    # in which the server refuses a second statement.
    session.execute(declare, binary=True)
    match invariant.kind:
        case Kind.ROWS:
            found = _rows(session, side, invariant, limits)
        case Kind.NUMBER:
            found = Outcome(side, number=_number(session))
    session.execute(sql.SQL("CLOSE {}").format(_CURSOR))
    return found


def _rows(session: Connection, side: Side, invariant: Invariant, limits: Limits) -> Outcome:
    fetched = _fetch(session, limits.keep_rows)
    names = [_text(fetched.fname(column)) or "" for column in range(fetched.nfields)]
    if missing := [name for name in invariant.key if name not in names]:
        raise _NoAnswer(f"key: the statement has no column {', '.join(missing)}")
    if not names:
        raise _NoAnswer("the statement has no column")
    key = [names.index(name) for name in invariant.key] or [0]
    violations = []
    for row in range(fetched.ntuples):
        cells = tuple((name, _text(fetched.get_value(row, column))) for column, name in enumerate(names))
        violations.append(Violation(tuple(cells[i] for i in key), cells if limits.show_values else None))
    moved = session.execute(sql.SQL("MOVE FORWARD ALL FROM {}").format(_CURSOR)).statusmessage or ""
    return Outcome(side, rows=len(violations) + int(moved.removeprefix("MOVE ")), violations=tuple(violations))


def _number(session: Connection) -> Decimal:
    fetched = _fetch(session, 2)
    if fetched.nfields != 1 or fetched.ntuples != 1:
        raise _NoAnswer("kind: number: the statement must answer one row of one column")
    if fetched.ftype(0) not in _EXACT:
        raise _NoAnswer("kind: number: the column must be an integer or numeric")
    value = _text(fetched.get_value(0, 0))
    if value is None:
        raise _NoAnswer("kind: number: the answer is NULL: write coalesce(..., 0)")
    number = Decimal(value)
    if not number.is_finite():
        raise _NoAnswer(f"kind: number: the answer is {value}")
    return number


def _fetch(session: Connection, count: int) -> psycopg.pq.abc.PGresult:
    cursor = session.execute(sql.SQL("FETCH FORWARD {} FROM {}").format(sql.Literal(count), _CURSOR))
    assert cursor.pgresult is not None
    return cursor.pgresult


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _reason(failed: psycopg.Error, limits: Limits, limit_s: float) -> str:
    """What a server said, without the values that it may quote."""
    if isinstance(failed, psycopg.errors.QueryCanceled):
        return f"took longer than {limit_s:g} s"
    state = failed.sqlstate or ""
    if state.startswith(_DATA_EXCEPTION) and not limits.show_values:
        return f"{type(failed).__name__} ({state}); --show-values says at which value"
    if "multiple commands" in (failed.diag.message_primary or ""):
        return f"holds more than one statement ({state})"
    return f"{failed.diag.message_primary} ({state})"


def keys(violation: Violation) -> str:
    """The violation as a line shows it."""
    return _cells(violation.values if violation.values is not None else violation.key)


def _cells(cells: Cells) -> str:
    return " ".join(f"{name}={'NULL' if value is None else value}" for name, value in cells)
