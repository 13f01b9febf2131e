"""Barriers that fail while they are handed over."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from contexts.databases import Databases
from migrator.barriers import WorkerBarriers
from migrator.control import intents, locks
from migrator.control.intents import IntentState, Kind
from migrator.control.migrations import CHANNEL
from tests.migrator.commands import run
from tests.migrator.moving import Bank
from tests.waiting import wait_until
from validations.snapshots import SnapshotGone


def test_a_worker_that_ends_after_its_answer(tmp_path: Path, pair: Databases) -> None:
    """Its sessions have ended, so nobody can import what it exported: tried again, and no error of the program."""
    bank = Bank.create(tmp_path, pair)
    run(bank, "prepare", "bank", "--skip-check")
    answerer = threading.Thread(target=_answer_and_end, args=(bank,))
    with locks.exclusive(bank.both.shared, bank.name, "worker"):
        answerer.start()
        with pytest.raises(SnapshotGone) as caught, WorkerBarriers(bank.context, bank.both)():
            pass
        answerer.join()
    assert caught.value.transient
    with bank.both.shared.connect("test") as conn:
        assert intents.open_intents(conn, bank.name) == []


def _answer_and_end(bank: Bank) -> None:
    with bank.both.shared.connect("test") as conn:
        wait_until(lambda: bool(intents.open_intents(conn, bank.name)))
        (intent,) = intents.open_intents(conn, bank.name)
        assert intent.kind is Kind.BARRIER
        gone = {"lsn": 1, "open_snapshot": "00000003-00000002-1", "closed_snapshot": "00000003-00000002-1"}
        intents.answer(conn, intent, IntentState.ACCEPTED, gone)
        conn.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
