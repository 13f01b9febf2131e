"""Invariants in ``verify``, in the gate of the switch, and under a live load."""

from __future__ import annotations

import json
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from contexts.databases import Databases
from contexts.model import Side
from migrator.cli.common import run_of
from migrator.proof import why_not_proven
from tests.migrator.moving import Bank, pay

BALANCES = """-- proves: the balance of each account is the sum of its entries
-- sides: shared, service
SELECT a.id, a.owner, a.balance FROM bank.account a
WHERE a.balance <> (SELECT coalesce(sum(amount), 0) FROM bank.entry e WHERE e.account = a.id)
"""
TOTAL = """-- proves: no money comes or goes
-- kind: number
SELECT sum(balance) FROM bank.account
"""
MONEY = Decimal("20000.00")  # 200 accounts with 100.00 each


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    return Bank.create(tmp_path, pair)


def write(bank: Bank, **texts: str) -> None:
    folder = bank.folder / "contexts" / "bank" / "invariants"
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.sql").write_text(text)


def verify(bank: Bank, *options: str, expect: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bank.cli("verify", "bank", "--json", *options, expect=expect).stdout)
    return found


def refusal(bank: Bank) -> str | None:
    """Why the switch would not take the last verification."""
    with run_of(bank.context, bank.databases(), "test") as run:
        return why_not_proven(run, Side.SHARED)


def test_what_verify_proves_beside_the_rows(bank: Bank) -> None:
    bank.cli("prepare", "bank", "--skip-check")
    with bank.worker():
        bank.await_streaming()
        assert "invariants: none" in bank.cli("verify", "bank").stdout
        assert refusal(bank) is None

        write(bank, balances=BALANCES, total=TOTAL)
        assert "did not run invariant balances as it is now" in str(refusal(bank))
        _totals_are_equal_to_the_cent_under_load(bank)
        assert refusal(bank) is None

        _numbers_that_differ_across_the_sides_are_found(bank)
        _damage_that_both_sides_share_is_found(bank)
        _an_invariant_without_an_answer_is_an_error(bank)
        _the_report_tells_it_all(bank)


def _totals_are_equal_to_the_cent_under_load(bank: Bank) -> None:
    stop, paid = threading.Event(), [0]

    def load() -> None:
        with bank.both.shared.connect("test") as conn:
            while not stop.is_set():
                with conn.transaction():
                    pay(conn, 1 + paid[0] * 7 % 200, 1 + (paid[0] * 7 + 3) % 200, "0.37")
                paid[0] += 1

    payer = threading.Thread(target=load)
    payer.start()
    try:
        before = paid[0]
        found = verify(bank, expect=0)
        assert paid[0] > before  # the load went on
    finally:
        stop.set()
        payer.join()
    assert [one["state"] for one in found["invariants"]] == ["holds", "holds"]
    numbers = [Decimal(side["number"]) for side in found["invariants"][1]["sides"]]
    assert numbers == [MONEY, MONEY]


def _numbers_that_differ_across_the_sides_are_found(bank: Bank) -> None:
    bank.await_equal()  # what still arrives would write over it
    with bank.both.service.connect("test", session_replication_role="replica") as rogue:
        rogue.execute("UPDATE bank.account SET balance = balance + 0.01 WHERE id = 2")
        shown = bank.cli("verify", "bank", "--show-values", expect=3).stdout
        rogue.execute("UPDATE bank.account SET balance = balance - 0.01 WHERE id = 2")
    assert "total: violated (error): shared: 20000.00, service: 20000.01" in shown
    assert "balances: violated (error): shared: 0 rows, service: 1 rows" in shown
    assert "service: id=2 owner=owner 2 balance=" in shown


def _damage_that_both_sides_share_is_found(bank: Bank) -> None:
    """A change that the stream carries over leaves equal rows on both sides: only an invariant sees it."""
    with bank.both.shared.connect("test") as conn:
        conn.execute("UPDATE bank.account SET balance = balance + 0.01 WHERE id = 2")
        found = verify(bank, expect=3)
        assert (found["verdict"], found["passed"]) == ("equal", False)
        balances, total = found["invariants"]
        assert balances["state"] == "violated"
        assert [(side["side"], side["rows"]) for side in balances["sides"]] == [("shared", 1), ("service", 1)]
        assert balances["sides"][0]["violations"] == [{"key": {"id": "2"}, "values": None}]
        assert "owner 2" not in json.dumps(found)
        assert total["state"] == "holds"
        assert found["next_steps"] == ["carveout verify bank --show-values"]
        assert "invariant balances: violated (error)" in str(refusal(bank))
        assert "invariant balances" in bank.cli("cutover", "bank", expect=4).stderr
        assert bank.is_open(Side.SHARED)
        conn.execute("UPDATE bank.account SET balance = balance - 0.01 WHERE id = 2")


def _an_invariant_without_an_answer_is_an_error(bank: Bank) -> None:
    write(bank, typo="-- proves: nothing\n-- severity: warning\nSELECT id FROM bank.acount\n")
    shown = bank.cli("verify", "bank", expect=1).stdout
    assert "NOT PASSED" in shown
    assert "typo: error (warning): shared: relation" in shown
    assert "invariant typo" in str(refusal(bank))

    write(bank, typo="-- prooves: nothing\nSELECT 1\n")
    refused = bank.cli("verify", "bank", expect=2).stderr
    assert "typo.sql: line 1: unknown key 'prooves'" in refused
    assert "the invariants cannot be read" in str(refusal(bank))


def _the_report_tells_it_all(bank: Bank) -> None:
    (bank.folder / "contexts" / "bank" / "invariants" / "typo.sql").unlink()
    file = bank.folder / "report.html"
    assert "NOT PROVEN" in bank.cli("report", "bank", "-o", str(file)).stdout  # the last verification had the typo
    assert "invariant typo: error" in file.read_text()
    verify(bank, expect=0)
    bank.cli("cutover", "bank")
    found = json.loads(bank.cli("report", "bank", "--json").stdout)
    assert (found["passed"], found["problem"], found["state"]) == (True, None, "switched")
    assert "from before the last switch" in found["not_proven_because"]
    assert [one["name"] for one in found["invariants"]] == ["balances", "total"]
    assert found["invariants"][1]["sql"] == TOTAL
    assert found["parity"] == {"schema": [], "sequences": found["parity"]["sequences"], "grants": []}
    assert found["switches"][-1]["write_block_ms"] > 0
    assert [event["kind"] for event in found["events"]].count("verify") >= 4
    assert found["verification"]["tables"][0]["rows_open"] == 200

    assert "proven equal" in bank.cli("report", "bank", "-o", str(file)).stdout
    shown = file.read_text()
    assert "PROVEN EQUAL" in shown
    assert "SELECT sum(balance) FROM bank.account" in shown
    assert f"{found['switches'][-1]['write_block_ms']:.0f} ms" in shown
