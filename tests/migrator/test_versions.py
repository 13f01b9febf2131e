"""Versions: every change is kept, once, on either apply path and on either side of a switch, and leads to the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contexts.databases import Databases
from contexts.model import Side
from migrator.cli.common import run_of
from migrator.proof import why_not_proven
from tests.migrator import inprocess
from tests.migrator.moving import Bank, pay
from tests.waiting import wait_until
from validations.invariants.model import State

AWKWARD = """
CREATE TABLE bank.odd (
    a int, "B b" text, doc json, amount numeric, ok bool, code char(5), big text, list int[],
    twice int GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY (a, "B b")
);
ALTER TABLE bank.odd ALTER big SET STORAGE EXTERNAL;
"""
ROW = """(%s, %s, '{"b": 1, "a":2}', 1.50, true, 'ab', repeat('x', 9000), '{1,NULL}')"""


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    made = Bank.create(tmp_path, pair, accounts=30)
    path = tmp_path / "contexts" / "bank" / "context.toml"
    declared = path.read_text().replace("[options]", '[[tables]]\nname = "bank.odd"\n[options]')
    for table in ("account", "entry", "odd"):
        declared = declared.replace(f'name = "bank.{table}"', f'name = "bank.{table}"\nversions = true')
    path.write_text(declared)
    made.expand_variables()
    for side in Side:
        on(made, side, "CREATE SCHEMA IF NOT EXISTS bank", AWKWARD)
    on(made, Side.SHARED, f"INSERT INTO bank.odd VALUES {ROW % (1, repr('x'))}")
    inprocess.prepare(made)
    return made


def on(bank: Bank, side: Side, *statements: str) -> None:
    """One transaction."""
    with bank.both[side].connect("test", autocommit=False) as conn:
        for statement in statements:
            conn.execute(statement)


def versions(bank: Bank, table: str, where: str = "true") -> list[tuple[Any, ...]]:
    """Operation, epoch, old and new row."""
    with bank.both.service.connect("test") as conn:
        return conn.execute(
            f"SELECT operation, epoch, old, new FROM bank.{table}_versions WHERE {where}"
            " ORDER BY epoch, commit_lsn, ordinal"
        ).fetchall()


def problems(bank: Bank) -> dict[str, Any]:
    """What is wrong with versions, by table: keys or the error."""
    found = inprocess.verify(bank)
    assert found.invariants is not None
    return {
        result.invariant.name: outcome.error or [dict(violation.key) for violation in outcome.violations]
        for result in found.invariants.results
        for outcome in result.outcomes
        if result.state is not State.HOLDS
    }


def change(bank: Bank, side: Side) -> None:
    """Inserts, updates, moves of keys, deletes: few at a time, and many."""
    on(bank, side, f"INSERT INTO bank.odd VALUES {ROW % (2, repr('y'))}", "UPDATE bank.odd SET amount = amount * 10")
    on(bank, side, """UPDATE bank.odd SET a = a + 10, "B b" = 'moved' WHERE a = 2""")
    on(bank, side, "UPDATE bank.odd SET big = NULL WHERE a = 12", "DELETE FROM bank.odd WHERE a = 12")
    on(bank, side, "UPDATE bank.account SET balance = balance + 1", "UPDATE bank.account SET balance = balance - 1")
    bank.pay(side, 1, 2)
    bank.await_equal()


def test_versions_follow_the_rows_on_both_sides_of_the_switch(bank: Bank) -> None:
    with inprocess.worker(bank):
        bank.await_streaming()
        assert [op for op, *_ in versions(bank, "account")] == ["baseline"] * 30
        change(bank, Side.SHARED)
        assert problems(bank) == {}
        ops = [(op, old and old["big"] and len(old["big"]), new and new["a"]) for op, _, old, new in versions(
            bank, "odd", "operation <> 'baseline'"
        )]  # fmt: skip
        assert ops == [
            ("insert", None, "2"), ("update", 9000, "1"), ("update", 9000, "2"), ("update", 9000, "12"),
            ("update", 9000, "12"), ("delete", None, None),
        ]  # fmt: skip
        ((_, _, _, first),) = versions(bank, "odd", "operation = 'baseline'")
        assert (first["doc"], first["ok"], first["code"], first["list"]) == (
            '{"b": 1, "a":2}', "t", "ab   ", "{1,NULL}",
        )  # fmt: skip
        assert "twice" not in first
        bank.cli("cutover", "bank")
        change(bank, Side.SERVICE)
        on(bank, Side.SERVICE, "TRUNCATE bank.odd", f"INSERT INTO bank.odd VALUES {ROW % (5, repr('z'))}")
        wait_until(lambda: len(versions(bank, "odd", "operation = 'truncate'")) == 1)
        assert problems(bank) == {}
        assert {epoch for _, epoch, *_ in versions(bank, "account")} == {1, 2}
        bank.cli("rollback", "bank")
        change(bank, Side.SHARED)
        assert problems(bank) == {}
        assert {epoch for _, epoch, *_ in versions(bank, "account")} == {1, 2, 3}


def test_a_version_that_is_lost_doubled_or_changed_is_found_by_its_row(bank: Bank) -> None:
    with inprocess.worker(bank):
        bank.await_streaming()
        bank.pay(Side.SHARED, 3, 4)
        bank.await_equal()
        newest = "(SELECT max(commit_lsn) FROM bank.account_versions)"
        on(bank, Side.SERVICE, f"DELETE FROM bank.account_versions WHERE commit_lsn = {newest} AND new ->> 'id' = '3'")
        assert problems(bank) == {"versions bank.account": [{"id": "3"}]}
        with run_of(bank.context, bank.both, "test") as run:
            assert "invariant versions bank.account: violated" in str(why_not_proven(run, Side.SHARED))
        on(bank, Side.SERVICE, 'UPDATE bank.account_versions SET new = new || \'{"owner": "x"}\' WHERE ordinal = -9')
        on(bank, Side.SERVICE, "DELETE FROM bank.entry_versions WHERE ordinal = -1")
        found = problems(bank)
        assert [len(keys) for keys in found.values()] == [2, 1]


@pytest.mark.parametrize(
    ("open_side", "point"), [(Side.SHARED, "apply.before_commit"), (Side.SERVICE, "apply.before_commit")]
)
def test_a_killed_worker_keeps_each_version_once(bank: Bank, open_side: Side, point: str) -> None:
    with bank.worker():
        bank.await_streaming()
        if open_side is Side.SERVICE:
            bank.cli("verify", "bank")
            bank.cli("cutover", "bank")
            bank.await_streaming()
    with bank.both[open_side].connect("test", autocommit=False) as conn:
        for number in range(1, 6):
            pay(conn, number, number + 1)
            conn.commit()
    with bank.worker(CARVEOUT_KILL_AT=point) as worker:
        assert worker.wait() == -9
    with bank.worker():
        bank.await_equal()
        assert len(versions(bank, "entry", "operation = 'insert'")) == 10
        assert len(versions(bank, "account", "operation = 'update'")) == 10
        said = json.loads(bank.cli("verify", "bank", "--json").stdout)
        assert [one["state"] for one in said["invariants"]] == ["holds"] * 3


def test_a_new_column_begins_a_new_baseline(bank: Bank) -> None:
    with inprocess.worker(bank):
        bank.await_streaming()
        for side in (Side.SERVICE, Side.SHARED):
            on(bank, side, "ALTER TABLE bank.account ADD note text DEFAULT 'n'")
        bank.pay(Side.SHARED, 1, 2)
        bank.await_equal()
        assert problems(bank) == {
            "versions bank.account": "the columns have changed since the baseline: start the worker again for a new one"
        }
    with inprocess.worker(bank):
        bank.await_streaming()
        assert problems(bank) == {}
        bank.pay(Side.SHARED, 1, 2)
        bank.await_equal()
        assert problems(bank) == {}
