"""Stream rules through the real command line: a worker that stops, an operator who decides, a worker that is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contexts.databases import Databases
from contexts.model import Side
from tests.migrator.moving import Bank, WorkerProcess
from tests.waiting import wait_until

RULES = """
[[rules]]
name = "double_entry"
kind = "balance"
table = "bank.entry"
column = "amount"
policy = "stop"

[[rules]]
name = "owner"
kind = "immutable"
table = "bank.account"
columns = ["owner"]
"""
RENAME = "UPDATE bank.account SET owner = 'somebody' WHERE id = {}"


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    made = Bank.create(tmp_path, pair)
    made.declare(RULES)
    made.cli("prepare", "bank", "--skip-check")
    return made


def on(bank: Bank, side: Side, *statements: str) -> None:
    """One transaction."""
    with bank.both[side].connect("test", autocommit=False) as conn:
        for statement in statements:
            conn.execute(statement)


def violations(bank: Bank, *, expect: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(bank.cli("rules", "list", "bank", "--json", expect=expect).stdout)[
        "violations"
    ]
    return found


def ends(worker: WorkerProcess) -> int:
    return worker.wait()


def test_the_worker_stops_before_a_transaction_until_somebody_accepts_it(bank: Bank) -> None:
    with bank.worker() as worker:
        bank.await_streaming()
        bank.pay(Side.SHARED, 1, 2)
        on(bank, Side.SHARED, RENAME.format(3))
        on(bank, Side.SHARED, "INSERT INTO bank.entry (account, amount) VALUES (1, 0.01)")
        bank.pay(Side.SHARED, 3, 4)
        assert ends(worker) == 5
    said = bank.worker_log()
    reported, stopped = violations(bank, expect=5)
    assert f"next: carveout rules accept bank {stopped['id']}" in said
    assert "what came before it was" in said
    assert (reported["rule"], reported["keys"], stopped["rule"]) == ("owner", [{"id": "3"}], "double_entry")
    assert (reported["applied_at"] is None, stopped["applied_at"]) == (False, None)
    rows = [len(bank.rows(side)["entry"]) for side in Side]
    assert rows == [205, 202]  # the first payment is there, the cent and the second payment are not

    with bank.worker() as worker:
        assert ends(worker) == 5
    assert len(violations(bank, expect=5)) == 2
    status = bank.status()
    assert status["rules"] == {"declared": 2, "violations": 2, "transactions": 2, "waiting": [stopped["id"]]}
    assert status["next_steps"][0] == f"carveout rules accept bank {stopped['id']}"
    assert f"THE STREAM WAITS for {stopped['id']}" in bank.cli("status", "bank").stdout

    bank.cli("rules", "accept", "bank", "service-99", expect=2)
    bank.cli("rules", "accept", "bank", reported["id"], expect=4)
    bank.cli("rules", "accept", "bank", stopped["id"], "--dry-run")
    assert len(bank.status()["rules"]["waiting"]) == 1
    bank.cli("rules", "accept", "bank", stopped["id"], "--reason", "a test")
    bank.cli("rules", "accept", "bank", stopped["id"], expect=4)
    with bank.worker():
        bank.await_equal()
        bank.await_streaming()
        _, accepted = violations(bank)
        assert (accepted["accepted_by"], accepted["reason"], accepted["applied_at"] is None) == (
            "postgres", "a test", False,
        )  # fmt: skip
        report = json.loads(bank.cli("report", "bank", "--json").stdout)
        assert [one["rule"] for one in report["rules"]] == ["owner", "double_entry"]


@pytest.mark.parametrize("point", ["apply.rows_written", "apply.before_commit", "apply.after_commit"])
def test_a_killed_worker_doubles_no_violation(bank: Bank, point: str) -> None:
    with bank.worker():
        bank.await_streaming()
    for account in (1, 2, 3):
        on(bank, Side.SHARED, RENAME.format(account))
    with bank.worker(CARVEOUT_KILL_AT=point) as worker:
        assert ends(worker) == -9
    with bank.worker():
        bank.await_equal()
    assert [(one["count"], one["keys"]) for one in violations(bank)] == [(1, [{"id": str(n)}]) for n in (1, 2, 3)]


def test_rules_go_on_after_the_switch_and_both_sides_are_read(bank: Bank) -> None:
    with bank.worker():
        bank.await_streaming()
        on(bank, Side.SHARED, RENAME.format(1))
        bank.await_equal()
        bank.cli("verify", "bank")
        bank.cli("cutover", "bank")
        on(bank, Side.SERVICE, RENAME.format(2))
        bank.await_equal()
        wait_until(lambda: bank.status()["worker"].get("rule_violations") == 2, bank.worker_log)
        assert [(one["id"], one["epoch"]) for one in violations(bank)] == [("service-1", 1), ("shared-1", 2)]
        bank.cli("verify", "bank")
        bank.cli("rollback", "bank")
        bank.cli("abort", "bank", "--confirm", "bank")
    assert violations(bank) == []
