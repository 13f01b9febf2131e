"""``abort`` gives up from every state in which the shared side is open, and leaves the shared database as it was."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from contexts.databases import Databases
from contexts.model import Side
from tests.migrator.commands import KILLED, run, run_killed_at
from tests.migrator.moving import Bank
from tests.migrator.payments import the_open_side
from tests.migrator.snapshots import catalog
from tests.waiting import wait_until

CONFIRM = ("--confirm", "bank")


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    return Bank.create(tmp_path, pair, options="batch_age_ms = 20")


def test_from_every_state(bank: Bank) -> None:
    shared = catalog(bank.both.shared, own=False)
    rows = bank.rows(Side.SHARED)
    run(bank, "abort", "bank", *CONFIRM)  # planned: nothing to do
    assert catalog(bank.both.shared) == shared

    run(bank, "prepare", "bank", "--skip-check")
    _abort(bank)

    run(bank, "prepare", "bank", "--skip-check")
    with bank.worker(CARVEOUT_KILL_AT="copy.planned") as worker:
        assert worker.wait() == KILLED
    assert bank.state() == "copying"
    _abort(bank)

    run(bank, "prepare", "bank", "--skip-check")
    with bank.worker() as worker:
        bank.await_streaming()
        _abort(bank)
        assert worker.wait() == 0
    assert catalog(bank.both.shared, own=False) == shared
    assert bank.rows(Side.SHARED) == rows

    run(bank, "prepare", "bank", "--skip-check")
    with bank.worker():
        bank.await_streaming()
        run(bank, "verify", "bank")
        run(bank, "cutover", "bank")
        assert "next: carveout rollback bank" in run(bank, "abort", "bank", *CONFIRM, expect=4).err
        run_killed_at(bank, "complete.started", "complete", "bank", *CONFIRM)
        for verb in ("abort", "cutover", "rollback"):
            confirm = CONFIRM if verb == "abort" else ()
            assert "next: carveout complete bank" in run(bank, verb, "bank", *confirm, expect=4).err
        run(bank, "complete", "bank", *CONFIRM)
    assert "is completed" in run(bank, "abort", "bank", *CONFIRM, expect=4).err
    assert the_open_side(bank) is Side.SERVICE


def test_while_a_part_is_being_copied(bank: Bank) -> None:
    run(bank, "prepare", "bank", "--skip-check")
    with bank.worker() as worker:
        with closing(bank.both.service.connect("test", autocommit=False)) as lock:
            lock.execute("LOCK TABLE bank.account, bank.entry IN SHARE MODE")
            wait_until(bank.waits_for_a_lock, bank.worker_log)
            lock.rollback()
            _abort(bank)
        assert worker.wait() == 0, bank.worker_log()
    assert bank.rows(Side.SERVICE) == {"account": [], "entry": []}


def test_it_asks_for_the_name(bank: Bank) -> None:
    run(bank, "prepare", "bank", "--skip-check")
    assert "add --confirm bank" in run(bank, "abort", "bank", expect=2).err
    assert "'wallet' is not 'bank'" in run(bank, "abort", "bank", "--confirm", "wallet", expect=4).err
    assert bank.state() == "prepared"


def _abort(bank: Bank) -> None:
    run(bank, "abort", "bank", *CONFIRM)
    assert bank.state() == "aborted"
    with bank.both.service.connect("test") as conn:
        assert conn.execute("SELECT count(*) FROM bank.account").fetchone() == (0,)
    for side in Side:
        with bank.both[side].connect("test") as conn:
            assert conn.execute(
                "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
            ).fetchone() == (0,)  # fmt: skip
