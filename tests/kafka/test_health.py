"""What is told of a connector that has failed, and by whom."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from cdc.kafka import connect, trace
from cdc.kafka.connect import Names
from cdc.kafka.health import look
from cdc.kafka.link import Link
from cdc.kafka.stack import Stack
from cdc.state.position import StreamId
from contexts.databases import Databases
from contexts.embedded import free_port
from contexts.loader import load_context, load_project
from contexts.model import Side
from migrator.worker.metrics import KAFKA_GAUGES
from tests.kafka.moving import api, kafka_bank
from tests.migrator.moving import Bank
from tests.migrator.test_json import documented
from tests.waiting import PATIENCE_S, wait_until

NAMES = Names.of(StreamId("bank", 1), "health")
TRACE = """org.apache.kafka.connect.errors.ConnectException: An exception occurred. 4711
\tat io.debezium.pipeline.ErrorHandler.setProducerThrowable(ErrorHandler.java:67)
Caused by: org.postgresql.util.PSQLException: ERROR: publication "ours" does not exist, "4711" and 'secret' neither
  Detail: Key (id)=(4711) is there.
\t... 5 more
"""


def test_a_trace_is_told_without_values() -> None:
    assert trace.shown(TRACE, ("ours",)) == (
        'ConnectException <- PSQLException: ERROR: publication "ours" does not exist, "..." and \'...\' neither'
    )
    about_a_row = "org.apache.kafka.connect.errors.DataException: 4711 is no integer\n\tat a.B.c(D.java:1)\n"
    assert trace.shown(about_a_row) == "DataException"
    assert trace.shown('Caused by: java.lang.NumberFormatException: For input "4711"') == "NumberFormatException"
    assert trace.shown("") == ""
    assert trace.shown("4711") == "an error without a name"


@pytest.fixture
def bank(tmp_path: Path, pair: Databases, stack: Stack) -> Bank:
    return kafka_bank(tmp_path, pair, stack, prefix="health")


def test_a_failed_task_is_loud_everywhere(bank: Bank, stack: Stack) -> None:
    bank.cli("prepare", "bank", "--skip-check")
    port = free_port()
    with bank.worker("--metrics", str(port)):
        bank.await_streaming()
        bank.pay(Side.SHARED, 1, 2)
        bank.await_equal()
        found = bank.status()["connector"]
        assert found.keys() == documented("status.connector")
        assert (found["running"], found["failed"], found["unanswered"]) == (True, False, [])
        assert found["topic_bytes"] > 0
        wait_until(lambda: gauges(port).keys() >= KAFKA_GAUGES.keys())
        assert (gauges(port)["carveout_connector_running"], gauges(port)["carveout_connector_failed"]) == (1, 0)
        bank.cli("pause", "bank")
        wait_until(lambda: bank.status()["worker"]["paused"])
        for _ in range(3):
            bank.pay(Side.SHARED, 1, 2)
        wait_until(lambda: bank.status()["connector"]["lag_records"] >= 3 * 4)
        assert bank.status()["connector"]["lag_bytes_estimated"] > 1_000
        _break(bank, stack)
        wait_until(lambda: gauges(port)["carveout_connector_failed"] == 1)
    shown = bank.cli("status", "bank").stdout
    assert re.search(r"CONNECTOR FAILED: health_bank_1 \(RUNNING, FAILED\): \w+.*Exception", shown), shown
    assert "carveout doctor bank" in bank.status()["next_steps"]
    assert "does not run (RUNNING, FAILED)" in bank.cli("doctor", "bank", expect=5).stdout
    assert "FAILED" in bank.cli("connector", "status", "bank", expect=5).stdout
    bank.cli("abort", "bank", "--confirm", "bank")


def _break(bank: Bank, stack: Stack) -> None:
    """Take the publication away: the next change cannot be decoded any more."""
    with bank.both.shared.connect("test") as conn:
        conn.execute(f"DROP PUBLICATION {NAMES.publication}")
    bank.pay(Side.SHARED, 1, 2)
    wait_until(lambda: (found := connect.status(api(stack), NAMES)) is not None and found.has_failed)


def gauges(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^(carveout_\w+){context=\"bank\"} (\S+)$", text, re.M)}


def test_who_does_not_answer_is_named_and_hides_nobody_else(bank: Bank, stack: Stack) -> None:
    bank.cli("prepare", "bank", "--skip-check")
    context = load_context(load_project(bank.folder), "bank")
    whole = Link.of(context, StreamId("bank", 1), bank.both.shared, bank.both.service)
    away = f"127.0.0.1:{free_port()}"
    cluster = replace(whole.cluster, connect=connect.Connect(f"http://{away}"))
    found = look(replace(whole, cluster=cluster))
    assert found.topic_bytes is not None
    assert re.findall("Connect .* does not answer", " ".join(found.unanswered)), found
    found = look(replace(whole, cluster=replace(whole.cluster, bootstrap=away)))
    assert (found.topic_bytes, found.state, len(found.unanswered)) == (None, None, 1)
    assert "Kafka" in found.unanswered[0]
    bank.cli("abort", "bank", "--confirm", "bank")
