"""verify --continuous: fresh proofs round after round, changed keys compared at once, and a clean end."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest

from contexts.databases import Databases
from contexts.model import Side, TableName
from migrator.continuous.recheck import Rechecked
from migrator.continuous.rounds import Rounds
from migrator.proof import why_not_proven
from migrator.verify import Verification
from tests.migrator import inprocess
from tests.migrator.commands import run, run_killed_at, start
from tests.migrator.driving import driver
from tests.migrator.moving import Bank
from tests.waiting import wait_until
from validations.state.store import Verifications

ACCOUNT = TableName("bank", "account")


class Told:
    """What the rounds told."""

    def __init__(self) -> None:
        self.rounds: list[Verification] = []
        self.rechecks: list[Rechecked] = []


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> Bank:
    made = Bank.create(tmp_path_factory.mktemp("bank"), module_pair)
    run(made, "prepare", "bank", "--skip-check")
    return made


@pytest.fixture(scope="module")
def bank(idle: Bank) -> Iterator[Bank]:
    with inprocess.worker(idle):
        idle.await_streaming()
        yield idle


@contextmanager
def rounds(bank: Bank, *, every_s: float, recheck_s: float) -> Iterator[Told]:
    stop, told, failed = threading.Event(), Told(), list[BaseException]()
    at_work = Rounds(bank.context, bank.both, stop, told.rounds.append, told.rechecks.append, every_s, recheck_s)

    def work() -> None:
        try:
            at_work.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield told
    finally:
        stop.set()
        thread.join()
    assert failed == []


def test_it_waits_for_a_worker_then_proves_again_and_again(idle: Bank) -> None:
    with rounds(idle, every_s=0.1, recheck_s=0.1) as told:
        wait_until(lambda: "verifying: continuously" in run(idle, "status", "bank").out)
        assert told.rounds == []
        with inprocess.worker(idle):
            wait_until(lambda: len(told.rounds) >= 3)
            assert idle.status()["verifying"]["continuous"]
    assert all(found.passed for found in told.rounds)
    numbers = [found.diff.verification for found in told.rounds]
    assert numbers == sorted(set(numbers))
    assert "verifying" not in run(idle, "status", "bank").out


def test_a_changed_key_that_differs_is_found_between_two_rounds(bank: Bank) -> None:
    with rounds(bank, every_s=1e6, recheck_s=0.05) as told:
        wait_until(lambda: len(told.rounds) == 1)
        bank.pay(Side.SHARED, 7, 8)
        bank.await_equal()
        with bank.both.service.connect("test", session_replication_role="replica") as rogue:
            rogue.execute("UPDATE bank.account SET balance = balance + 0.01 WHERE id = 7")
            wait_until(lambda: bool(told.rechecks[-1].differences))
            ((table, difference),) = told.rechecks[-1].differences
            assert (table, difference.key, difference.columns) == (ACCOUNT, ("7",), ("balance",))
            seen = len(told.rechecks)
            wait_until(lambda: len(told.rechecks) > seen + 2)
            with driver(bank) as at_work:
                reason = why_not_proven(at_work, Side.SHARED)
            assert reason == "a later comparison found 1 differences; only a new full verification clears that"
            rogue.execute("UPDATE bank.account SET balance = balance - 0.01 WHERE id = 7")
        wait_until(lambda: not told.rechecks[-1].differences)
        assert told.rechecks[-1].keys >= 2
        assert len(told.rounds) == 1


def test_the_command_ends_with_a_signal_and_keeps_others_out(bank: Bank) -> None:
    at_work = start(bank, "verify", "bank", "--continuous")
    number = _latest(bank)
    wait_until(lambda: _latest(bank) > number and not _is_unfinished(bank))
    assert "another continuous verification is at work" in run(bank, "verify", "bank", "--continuous", expect=4).err
    at_work.send(signal.SIGTERM)
    ended = at_work.end(0)
    assert "bank: PASSED: equal" in ended.out
    assert "goes with no other option" in run(bank, "verify", "bank", "--continuous", "--json", expect=2).err


def test_killed_in_a_round_it_goes_on_with_it(bank: Bank) -> None:
    run_killed_at(bank, "verify.segment_done", "verify", "bank", "--continuous")
    number = _latest(bank)
    assert _is_unfinished(bank)
    # The other segment may have ended too, just before the process did.
    assert re.search(r"verifying: stopped, [12] of 2 segments", run(bank, "status", "bank").out)
    with rounds(bank, every_s=1e6, recheck_s=1) as told:
        wait_until(lambda: bool(told.rounds))
    assert told.rounds[0].diff.verification == number
    assert told.rounds[0].passed


def _latest(bank: Bank) -> int:
    with suppress(psycopg.errors.UndefinedTable):  # the command makes it at its start
        latest = Verifications(bank.both.service, "bank").latest()
        return latest.verification if latest else 0
    return 0


def _is_unfinished(bank: Bank) -> bool:
    latest = Verifications(bank.both.service, "bank").latest()
    return latest is not None and latest.finished_at is None
