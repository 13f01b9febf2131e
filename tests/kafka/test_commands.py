"""``carveout connector`` and ``doctor`` on a bank whose stream goes through real Kafka."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cdc.kafka import connect, place
from cdc.kafka.connect import Names
from cdc.kafka.stack import Stack
from cdc.state.position import StreamId
from contexts.databases import Databases
from contexts.errors import CarveoutError, SlotLost
from contexts.model import Side
from tests.kafka.moving import api, kafka_bank
from tests.migrator import commands
from tests.migrator.moving import ROOT, Bank
from tests.waiting import wait_until

NAMES = Names.of(StreamId("bank", 1), "commands")


@pytest.fixture
def bank(tmp_path: Path, pair: Databases, stack: Stack) -> Bank:
    return kafka_bank(tmp_path, pair, stack, prefix="commands")


def run(bank: Bank, *arguments: str, expect: int = 0) -> commands.Ended:
    return commands.run(bank, *arguments, expect=expect)


def test_a_connector_is_shown_judged_made_again_and_refused_without_its_place(bank: Bank, stack: Stack) -> None:
    _before_the_beginning(bank)
    with bank.worker() as worker:
        bank.await_streaming()
        bank.pay(Side.SHARED, 1, 2)
        bank.await_equal()
        _runs_and_is_documented(bank)
        assert "needs the connector" in run(bank, "connector", "delete", "bank", expect=4).err
        _a_setting_that_loses_is_named_everywhere(bank, stack)
        worker.stop()
    _who_cannot_be_set_back_goes_on(stack)
    with bank.worker():
        bank.pay(Side.SHARED, 5, 6)
        bank.await_equal()
    api(stack).call("DELETE", f"/connectors/{NAMES.connector}")
    _a_worker_does_not_make_it_again(bank)
    bank.pay(Side.SHARED, 3, 4)
    run(bank, "connector", "apply", "bank")
    with bank.worker():
        bank.await_equal()
    connect.delete(api(stack), NAMES)  # with its offsets
    assert "place is lost" in run(bank, "connector", "apply", "bank", expect=4).err
    assert connect.current(api(stack), NAMES) is None
    run(bank, "abort", "bank", "--confirm", "bank")
    run(bank, "connector", "delete", "bank")


def _who_cannot_be_set_back_goes_on(stack: Stack) -> None:
    """But without its slot it stays stopped; so it does where the worker is killed, and the next one resumes it."""

    def fails(error: CarveoutError) -> None:
        raise error

    with pytest.raises(connect.ConnectorFailed, match="of the test"):
        place.rewind(api(stack), NAMES, meanwhile=lambda: fails(connect.ConnectorFailed("of the test")))
    connect.await_running(api(stack), NAMES)
    with pytest.raises(SlotLost, match="of the test"):
        place.rewind(api(stack), NAMES, meanwhile=lambda: fails(SlotLost("of the test")))
    assert connect.status(api(stack), NAMES) == connect.Status("STOPPED", ())


def _before_the_beginning(bank: Bank) -> None:
    run(bank, "prepare", "bank", "--skip-check")
    assert "the worker makes the connector" in run(bank, "connector", "apply", "bank", expect=4).err
    shown = json.loads(run(bank, "connector", "config", "bank").out)
    assert shown["slot.name"] == "carveout_bank_1"
    assert "not there" in run(bank, "connector", "status", "bank", expect=5).out


def _runs_and_is_documented(bank: Bank) -> None:
    found = json.loads(run(bank, "connector", "status", "bank", "--json").out)
    assert (found["state"], found["tasks"], found["findings"]) == ("RUNNING", ["RUNNING"], [])
    page = (ROOT / "docs" / "json.md").read_text().partition("<!-- keys: connector status -->")[2].partition("\n\n")[0]
    keys = {
        key for row in page.splitlines() if row.startswith("| `") for key in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert keys == found.keys() - {"version", "context", "next_steps"}
    assert "the connector runs, loses nothing" in run(bank, "doctor", "bank").out


def _a_setting_that_loses_is_named_everywhere(bank: Bank, stack: Stack) -> None:
    config = connect.current(api(stack), NAMES)
    assert config is not None
    connect.apply(api(stack), NAMES, {**config, "skipped.operations": "t"})
    for arguments in (("connector", "status", "bank"), ("doctor", "bank")):
        assert "skipped.operations=t: TRUNCATE would be skipped" in run(bank, *arguments, expect=5).out
    assert "TRUNCATE would be skipped" in run(bank, "cutover", "bank", expect=4).err
    run(bank, "connector", "apply", "bank")
    # Connect restarts what was changed, and for a moment shows it as it was.
    wait_until(lambda: bank.cli("connector", "status", "bank", expect=None).returncode == 0)


def _a_worker_does_not_make_it_again(bank: Bank) -> None:
    with bank.worker() as worker:
        assert worker.wait() == 4
    assert "somebody has deleted it" in bank.worker_log()
    wait_until(lambda: "not there" in run(bank, "doctor", "bank", expect=5).out)


def test_a_context_without_kafka_is_told_so(tmp_path: Path, pair: Databases) -> None:
    bank = Bank.create(tmp_path, pair)
    run(bank, "prepare", "bank", "--skip-check")
    assert 'source = "kafka"' in run(bank, "connector", "status", "bank", expect=2).err


def test_the_stack_for_development_ends_with_its_process(tmp_path: Path, stack: Stack) -> None:
    """``stack`` only says that this machine can."""
    command = [sys.executable, str(ROOT / "migrate.py"), "dev", "kafka", "--broker-port", "0", "--connect-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        assert process.stderr is not None
        told = [process.stderr.readline() for _ in range(2)] if all(lines) else process.stderr.readlines()
        assert "running" in told[-1], told
        url = lines[1].partition("=")[2].strip()
        assert connect.listed(connect.Connect(url)) == []
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: not answers(url))


def answers(url: str) -> bool:
    try:
        connect.listed(connect.Connect(url))
    except connect.ConnectUnreachable:
        return False
    return True
