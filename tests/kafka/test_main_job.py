"""What a migration through Kafka leaves behind; the whole way is told by ``test_demo.py``."""

from __future__ import annotations

from pathlib import Path

from cdc.kafka.stack import Stack
from contexts.databases import Databases
from contexts.model import Side
from tests.kafka.moving import kafka_bank, left


def test_abort_removes_connector_topic_and_slot(tmp_path: Path, pair: Databases, stack: Stack) -> None:
    bank = kafka_bank(tmp_path, pair, stack, prefix="job")
    bank.cli("prepare", "bank", "--skip-check")
    assert left(stack, "job") == ["job_bank_1"], "the topic"
    with bank.worker():
        bank.await_streaming()
        assert left(stack, "job") == ["job_bank_1", "job_bank_1"], "and the connector"
        bank.cli("abort", "bank", "--confirm", "bank")
    assert left(stack, "job") == []
    for side in Side:
        with bank.both[side].connect("test") as conn:
            slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
            assert conn.execute(slots).fetchone() == (0,)
