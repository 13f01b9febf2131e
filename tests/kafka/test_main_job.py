"""The main job with its stream through real Kafka and Debezium: there, back, there again, and over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cdc.kafka import connect, topic
from cdc.kafka.stack import Stack
from contexts.databases import Databases
from contexts.model import Side
from tests.kafka.moving import api, kafka_bank
from tests.migrator.moving import Bank


@pytest.fixture
def bank(tmp_path: Path, pair: Databases, stack: Stack) -> Bank:
    return kafka_bank(tmp_path, pair, stack, prefix="job")


def test_there_and_back_and_there_again(bank: Bank, stack: Stack) -> None:
    bank.cli("prepare", "bank", "--skip-check")
    assert left(stack, "job") == ["job_bank_1"]
    with bank.worker():
        bank.await_streaming()
        bank.pay(Side.SHARED, 1, 2)
        bank.await_equal()
        _verify_and_switch(bank, "cutover")
        assert bank.is_open(Side.SERVICE)
        assert not bank.is_open(Side.SHARED)
        bank.pay(Side.SERVICE, 3, 4)
        bank.await_equal()
        _verify_and_switch(bank, "rollback")
        assert bank.is_open(Side.SHARED)
        bank.pay(Side.SHARED, 5, 6)
        bank.await_equal()
        _verify_and_switch(bank, "cutover")
        bank.pay(Side.SERVICE, 7, 8)
        bank.await_equal()
        assert left(stack, "job") == ["job_bank_4", "job_bank_4"], "of the old streams nothing is left"
        bank.cli("complete", "bank", "--confirm", "bank")
    assert left(stack, "job") == []
    _require_no_slots(bank)


def test_abort_removes_connector_topic_and_slot(bank: Bank, stack: Stack) -> None:
    bank.cli("prepare", "bank", "--skip-check")
    with bank.worker():
        bank.await_streaming()
        bank.cli("abort", "bank", "--confirm", "bank")
    assert left(stack, "job") == []
    _require_no_slots(bank)


def left(stack: Stack, prefix: str) -> list[str]:
    """What Kafka and Connect hold of a test."""
    names = [*connect.listed(api(stack)), *topic.listed(stack.bootstrap)]
    return sorted(name for name in names if name.startswith(f"{prefix}_"))


def _verify_and_switch(bank: Bank, verb: str) -> None:
    bank.await_streaming()
    assert json.loads(bank.cli("verify", "bank", "--json").stdout)["verdict"] == "equal"
    report = json.loads(bank.cli(verb, "bank", "--json").stdout)
    assert report["to"] == ("service" if verb == "cutover" else "shared")


def _require_no_slots(bank: Bank) -> None:
    for side in Side:
        with bank.both[side].connect("test") as conn:
            slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
            assert conn.execute(slots).fetchone() == (0,)
