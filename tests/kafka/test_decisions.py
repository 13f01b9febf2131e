"""A record that cannot be read stops the worker; an operator looks at it, leaves it out or replaces it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cdc.kafka.stack import Stack
from cdc.lsn import parse_lsn
from contexts.databases import Databases
from contexts.model import Side
from tests.kafka.moving import kafka_bank
from tests.migrator.commands import run
from tests.migrator.moving import Bank

TOPIC = "decisions_bank_1"


@pytest.fixture
def bank(tmp_path: Path, pair: Databases, stack: Stack) -> Bank:
    return kafka_bank(tmp_path, pair, stack, prefix="decisions")


def test_a_poisoned_record_is_left_out_or_replaced_by_decision(bank: Bank, stack: Stack) -> None:
    run(bank, "prepare", "bank", "--skip-check")
    assert "no stream has begun" in run(bank, "stream", "look", "bank", expect=4).err
    with bank.worker() as worker:
        bank.await_streaming()
        bank.pay(Side.SHARED, 1, 2)
        bank.await_equal()
        run(bank, "verify", "bank")
        assert "stops nowhere" in run(bank, "stream", "look", "bank").out
        [foreign] = send(stack, {"who": "not Debezium"})
        assert worker.wait() == 5
    _is_shown_and_left_out(bank, foreign)
    with bank.worker() as worker:
        bank.pay(Side.SHARED, 3, 4)
        bank.await_equal()
        assert "from before a record was left out" in run(bank, "cutover", "bank", expect=4).err
        run(bank, "verify", "bank")
        worker.stop()
    _a_row_is_replaced(bank, stack)
    listed = json.loads(run(bank, "stream", "list", "bank", "--json").out)["decisions"]
    assert [one["decision"] for one in listed] == ["left out", "replaced"]
    run(bank, "abort", "bank", "--confirm", "bank")


def _is_shown_and_left_out(bank: Bank, offset: int) -> None:
    shown = run(bank, "stream", "look", "bank", expect=5).out
    assert f"offset {offset}: no event of Debezium" in shown
    assert "not Debezium" not in shown
    assert "not Debezium" in run(bank, "stream", "look", "bank", "--show-values", expect=5).out
    wrong = run(bank, "stream", "skip", "bank", "--offset", "1", "--reason", "test", expect=4)
    assert f"it stops at offset {offset}" in wrong.err
    run(bank, "stream", "skip", "bank", "--offset", str(offset), "--reason", "somebody's test")
    assert "stops nowhere" in run(bank, "stream", "look", "bank").out


def _a_row_is_replaced(bank: Bank, stack: Stack) -> None:
    with bank.both.shared.connect("test") as conn:
        row = conn.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    place = parse_lsn(row[0]) + 1  # behind everything that the worker may have applied
    begin, broken, end = transaction(place, "a lot")
    offsets = send(stack, begin, broken, end)
    found = json.loads(run(bank, "stream", "look", "bank", "--show-values", "--json", expect=5).out)
    assert (found["offset"], found["record"]["after"]["amount"]) == (offsets[1], "a lot")
    file = bank.folder / "record.json"
    file.write_text(json.dumps(transaction(place, "5.00")[1]))
    run(bank, "stream", "repair", "bank", "--offset", str(offsets[1]), "--reason", "read aloud", "--record", str(file))
    with bank.worker() as worker:
        bank.await_streaming()
        assert run(bank, "verify", "bank", expect=3).out, "the row is on the closed side only"
        worker.stop()
    with bank.both.service.connect("test") as conn:
        assert conn.execute("SELECT amount::text FROM bank.entry WHERE id = 999999").fetchone() == ("5.00",)


def transaction(lsn: int, amount: str) -> list[dict[str, Any]]:
    """One inserted entry as Debezium writes it, without schemas."""
    xid = 4_000_000
    source = {"schema": "bank", "table": "entry", "lsn": lsn, "txId": xid, "sequence": f'["{lsn}","{lsn}"]',
              "ts_ms": 1, "ts_us": 1000}  # fmt: skip
    place = {"id": f"{xid}:{lsn}", "total_order": 1, "data_collection_order": 1}
    after = {"id": 999999, "account": 1, "amount": amount, "memo": None}
    boundary = {"id": f"{xid}:{lsn}", "data_collections": None, "ts_ms": 1}
    return [
        {"status": "BEGIN", "event_count": None, **boundary},
        {"op": "c", "before": None, "after": after, "source": source, "transaction": place, "ts_ms": 1},
        {"status": "END", "event_count": 1, **boundary},
    ]


def send(stack: Stack, *values: dict[str, Any]) -> list[int]:
    """Write records to the topic in one batch, beside the connector; their offsets."""
    from kafka import KafkaProducer

    producer: Any = KafkaProducer(bootstrap_servers=stack.bootstrap, linger_ms=500)
    sent = [producer.send(TOPIC, json.dumps(value).encode(), partition=0) for value in values]
    producer.flush()
    producer.close()
    return [future.get(30).offset for future in sent]
