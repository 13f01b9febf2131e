"""After the point of no return a switch only goes forward, and its command says which side is open."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from contexts.databases import Databases
from contexts.errors import ExitCode
from contexts.model import Side
from migrator.cli.switching import cutover
from migrator.switch.settle import OpenNotFinished
from tests.migrator.commands import run
from tests.migrator.driving import at_point, switch
from tests.migrator.moving import Bank, WorkerProcess
from tests.migrator.payments import the_open_side


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    made = Bank.create(tmp_path, pair)
    made.expand_variables()
    run(made, "prepare", "bank", "--skip-check")
    return made


@pytest.fixture
def worker(bank: Bank) -> Iterator[WorkerProcess]:
    with bank.worker() as running:
        bank.await_streaming()
        run(bank, "verify", "bank")
        yield running


def assert_goes_on(bank: Bank) -> None:
    """``resume`` finishes it, and what is written to the service side flows back."""
    assert "the switch was finished; the service side is open" in run(bank, "resume", "bank").out
    bank.await_streaming()
    bank.pay(Side.SERVICE, 1, 2)
    bank.await_equal()
    assert (bank.state(), the_open_side(bank)) == ("switched", Side.SERVICE)


def test_a_worker_that_hangs_after_the_drain(
    bank: Bank, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_point(monkeypatch, "switch.drained", lambda: worker.process.send_signal(signal.SIGSTOP))
    with pytest.raises(OpenNotFinished) as caught:
        switch(bank, Side.SERVICE)
    assert the_open_side(bank) is Side.SERVICE
    assert caught.value.exit_code == ExitCode.NEEDS_HUMAN
    shown = "\n".join(caught.value.lines())
    assert "the service side is open and takes writes, but the switch is not finished: slot" in shown
    assert "next: if the worker hangs, end it and start another; then carveout resume bank" in shown
    assert "it is past the point of no return" in run(bank, "doctor", "bank", expect=5).out
    worker.kill()
    with bank.worker():
        assert_goes_on(bank)


def test_a_worker_that_died_is_warned_of(bank: Bank, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    at_point(monkeypatch, "switch.drained", worker.kill)
    done = CliRunner().invoke(cutover, ["bank", "--project", str(bank.folder), "--json"])
    assert done.exit_code == 0, done
    (warning,) = json.loads(done.stdout)["warnings"]
    assert warning == "no worker is running: until `carveout worker bank` is, no write comes to the shared side"
    with bank.worker():
        bank.await_streaming()
        bank.pay(Side.SERVICE, 1, 2)
        bank.await_equal()


def test_an_error_while_opening_still_opens_and_is_timed(
    bank: Bank, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise psycopg.OperationalError("the connection was lost")

    at_point(monkeypatch, "switch.committed", fail)
    report = switch(bank, Side.SERVICE)
    assert the_open_side(bank) is Side.SERVICE
    assert report.write_block_ms >= sum(report.breakdown_ms.values()) - 1 > 0
    assert "open" in report.breakdown_ms


def test_ctrl_c_while_the_rest_is_done(bank: Bank, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    at_point(monkeypatch, "switch.finished", interrupt)
    with pytest.raises(OpenNotFinished, match=r"the service side is open and takes writes.*interrupted"):
        switch(bank, Side.SERVICE)
    assert_goes_on(bank)
