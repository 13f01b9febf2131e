"""The main job on one small bank: there, back, there again, and over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contexts.databases import Databases
from contexts.model import Side
from tests.migrator.moving import Bank


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    return Bank.create(tmp_path, pair)


def test_there_and_back_and_there_again(bank: Bank) -> None:
    bank.cli("prepare", "bank", "--skip-check")
    assert not bank.is_open(Side.SERVICE)
    with bank.worker():
        bank.await_streaming()
        bank.pay(Side.SHARED, 1, 2)
        assert json.loads(bank.cli("verify", "bank", "--json").stdout)["verdict"] == "equal"

        _a_row_that_is_wrong_at_the_fence_sends_the_switch_back(bank)
        report = json.loads(bank.cli("cutover", "bank", "--json").stdout)
        assert report["to"] == "service"
        assert bank.is_open(Side.SERVICE)
        assert not bank.is_open(Side.SHARED)
        bank.pay(Side.SERVICE, 3, 4)
        bank.await_streaming()
        assert json.loads(bank.cli("verify", "bank", "--json").stdout)["verdict"] == "equal"

        bank.cli("rollback", "bank")
        assert bank.is_open(Side.SHARED)
        assert not bank.is_open(Side.SERVICE)
        bank.pay(Side.SHARED, 5, 6)
        bank.await_streaming()
        bank.cli("verify", "bank")

        bank.cli("cutover", "bank")
        bank.pay(Side.SERVICE, 7, 8)
        bank.await_equal()
        bank.cli("complete", "bank", "--confirm", "bank")
    assert bank.is_open(Side.SERVICE)
    assert not bank.is_open(Side.SHARED)
    for side in Side:
        with bank.both[side].connect("test") as conn:
            assert conn.execute("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
                                ).fetchone() == (0,)  # fmt: skip


def _a_row_that_is_wrong_at_the_fence_sends_the_switch_back(bank: Bank) -> None:
    with bank.both.service.connect("test", session_replication_role="replica") as rogue:
        rogue.execute("UPDATE bank.account SET balance = balance + 0.01 WHERE id = 2")
        refused = bank.cli("cutover", "bank", expect=1)
        assert "1 rows differ at the fence: bank.account key=2 different" in refused.stderr
        assert bank.is_open(Side.SHARED)
        assert not bank.is_open(Side.SERVICE)
        bank.await_streaming()
        rogue.execute("UPDATE bank.account SET balance = balance - 0.01 WHERE id = 2")
