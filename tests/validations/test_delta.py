"""Given keys only, in bounded time."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from contexts.databases import Databases
from contexts.errors import RefusedError
from contexts.model import Side, TableName
from tests.validations.support import Sides
from validations.diff.delta import KeysResult, diff_keys, prepare
from validations.diff.model import Key, Kind, Verdict
from validations.diff.sessions import Pair, Rows

MISSING, SURPLUS, DIFFERENT = Kind.MISSING_ON_CLOSED, Kind.MISSING_ON_OPEN, Kind.DIFFERENT


@contextmanager
def _pair(sides: Sides) -> Iterator[Pair]:
    with (
        sides.databases.shared.connect("delta", autocommit=False) as ours,
        sides.databases.service.connect("delta", autocommit=False) as theirs,
        Pair(ours, theirs) as pair,
    ):
        yield pair


def _compare(sides: Sides, keys: list[Key], *, budget_s: float = 60.0, table: str = "t") -> KeysResult:
    with _pair(sides) as pair:
        found = prepare(pair, sides.read(Side.SHARED), sides.read(Side.SERVICE))
        return diff_keys(pair, found[TableName("public", table)], keys, deadline=time.monotonic() + budget_s)


@pytest.fixture
def sides(pair: Databases) -> Sides:
    made = Sides(pair)
    made.both(
        "CREATE TABLE t (a char(4), k int8, n numeric, PRIMARY KEY (k, a))",
        "INSERT INTO t SELECT 'x', i, 1.50 FROM generate_series(1, 5000) i",
    )
    return made


def test_only_the_given_keys_are_compared(sides: Sides) -> None:
    sides.on(
        Side.SERVICE,
        "UPDATE t SET n = 1.5 WHERE k IN (3, 4)",
        "DELETE FROM t WHERE k = 5",
        "INSERT INTO t VALUES ('y', 6, 1)",
    )
    keys: list[Key] = [("3", "x   "), ("5", "x"), ("6", "x"), ("6", "y"), ("7", "gone"), ("3", "x   ")]
    result = _compare(sides, keys)
    assert [(d.key, d.kind, d.columns) for d in result.differences] == [
        (("3", "x   "), DIFFERENT, ("n",)),
        (("5", "x   "), MISSING, ()),
        (("6", "y   "), SURPLUS, ()),
    ]
    assert (result.verdict, result.keys, result.compared) == (Verdict.DIFFERENT, 5, 5)
    assert (result.rows_open, result.rows_closed) == (3, 3)


def test_no_key_is_no_proof(sides: Sides) -> None:
    assert _compare(sides, []).verdict is Verdict.NOTHING_COMPARED


def test_many_keys_are_compared_in_batches(sides: Sides) -> None:
    result = _compare(sides, [(str(n), "x") for n in range(1, 5001)])
    assert (result.verdict, result.compared, result.rows_open) == (Verdict.EQUAL, 5000, 5000)


def test_time_that_is_over_makes_it_incomplete(sides: Sides) -> None:
    assert _compare(sides, [("1", "x")], budget_s=0).verdict is Verdict.INCOMPLETE
    with sides.databases.service.connect("test", autocommit=False) as locker:
        locker.execute("SELECT 1")
        with _pair(sides) as pair:
            found = prepare(pair, sides.read(Side.SHARED), sides.read(Side.SERVICE))
            locker.execute("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
            started = time.monotonic()
            result = diff_keys(pair, found[sides.names[0]], [("1", "x")], deadline=started + 0.3)
        assert (result.verdict, result.compared) == (Verdict.INCOMPLETE, 0)
        assert 0.25 < time.monotonic() - started < 20


def test_no_batch_is_begun_that_would_not_end_in_time(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine so slow that a key takes 10 ms, 3 s are enough for 300 keys: 100, then 200, then none."""
    ask, spent = Pair.ask, [0.0]

    def ask_slowly(self: Pair, *arguments: Any, deadline: float) -> tuple[Rows, Rows]:
        found = ask(self, *arguments, deadline=deadline)
        spent[0] += 0.01 * len(found[0])
        return found

    monkeypatch.setattr(Pair, "ask", ask_slowly)
    monkeypatch.setattr("validations.diff.delta.time.monotonic", lambda: spent[0])
    with _pair(sides) as pair:
        found = prepare(pair, sides.read(Side.SHARED), sides.read(Side.SERVICE))
        keys: list[Key] = [(str(number), "x") for number in range(1, 1001)]
        result = diff_keys(pair, found[TableName("public", "t")], keys, deadline=3.005)
    assert (result.compared, result.verdict) == (300, Verdict.INCOMPLETE)
    assert spent[0] == pytest.approx(3.0)


def test_a_difference_counts_though_there_is_no_time_to_name_its_columns(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides.on(Side.SERVICE, "UPDATE t SET n = 1.5 WHERE k = 3")
    ask = Pair.ask

    def ask_and_let_time_pass(self: Pair, *arguments: Any, deadline: float) -> tuple[Rows, Rows]:
        found = ask(self, *arguments, deadline=deadline)
        monkeypatch.setattr("validations.diff.sessions.time.monotonic", lambda: deadline)
        return found

    monkeypatch.setattr(Pair, "ask", ask_and_let_time_pass)
    result = _compare(sides, [("3", "x")])
    assert [(d.key, d.kind, d.columns) for d in result.differences] == [(("3", "x   "), DIFFERENT, ())]
    assert (result.verdict, result.compared) == (Verdict.DIFFERENT, 1)


def test_a_table_that_is_missing_is_refused(sides: Sides) -> None:
    sides.on(Side.SERVICE, "DROP TABLE t")
    with pytest.raises(RefusedError, match=r"public\.t: the table is missing on the closed side"):
        _compare(sides, [("1", "x")])


def test_a_table_without_key_is_refused(sides: Sides) -> None:
    sides.tables = ("bag",)
    sides.both("CREATE TABLE bag (n int)")
    with pytest.raises(RefusedError, match="has no key"):
        _compare(sides, [("1",)], table="bag")


@pytest.mark.parametrize(("budget_s", "verdict"), [(60.0, Verdict.DIFFERENT), (0.0, Verdict.INCOMPLETE)])
def test_the_result_is_stored(sides: Sides, budget_s: float, verdict: Verdict) -> None:
    sides.on(Side.SERVICE, "DELETE FROM t WHERE k = 5")
    result = _compare(sides, [("5", "x"), ("6", "x")], budget_s=budget_s)
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    stored = sides.store.result(sides.store.save_keys(Side.SHARED, "f", 0x10, at, [result]))
    assert (stored.verdict, stored.lsn_first, stored.oldest_at) == (verdict, 0x10, at)
    assert stored.finished_at is not None
    assert [d.key for d in sides.found(stored)] == ([("5", "x   ")] if budget_s else [])
    assert sides.diff().verification > stored.verification  # a delta is never gone on with as a full diff
