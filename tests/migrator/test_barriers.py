"""Barriers that fail while they are handed over, or that wait for whoever waits for the stream."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from contexts.databases import Databases
from contexts.model import Side
from migrator.barriers import WorkerBarriers
from migrator.control import intents, locks
from migrator.control.intents import IntentState, Kind
from migrator.control.migrations import CHANNEL
from migrator.sides import gate
from migrator.worker import control
from tests.migrator import inprocess
from tests.migrator.commands import run
from tests.migrator.moving import Bank
from tests.waiting import wait_until
from validations.snapshots import exported


def test_a_worker_that_ends_after_its_answer(tmp_path: Path, pair: Databases) -> None:
    """Its sessions have ended, so nobody can import what it exported: whoever works now is asked."""
    bank = Bank.create(tmp_path, pair)
    run(bank, "prepare", "bank", "--skip-check")
    gone = {"lsn": 1, "open_snapshot": "00000003-00000002-1", "closed_snapshot": "00000003-00000002-1"}
    with (
        locks.exclusive(bank.both.shared, bank.name, "worker"),
        exported(bank.both.shared, "test") as ours, exported(bank.both.service, "test") as theirs,
    ):  # fmt: skip
        there = {"lsn": 2, "open_snapshot": ours.snapshot, "closed_snapshot": theirs.snapshot}
        answerer = threading.Thread(target=_answer, args=(bank, gone, there))
        answerer.start()
        with WorkerBarriers(bank.context, bank.both)() as barrier:
            assert barrier.lsn == 2
        answerer.join()
    with bank.both.shared.connect("test") as conn:
        assert intents.open_intents(conn, bank.name) == []


def _answer(bank: Bank, *answers: dict[str, Any]) -> None:
    answered: set[int] = set()
    with bank.both.shared.connect("test") as conn:

        def new() -> list[intents.Intent]:
            return [one for one in intents.open_intents(conn, bank.name) if one.id not in answered]

        for answer in answers:
            wait_until(lambda: bool(new()))
            (intent,) = new()
            assert intent.kind is Kind.BARRIER
            intents.answer(conn, intent, IntentState.ACCEPTED, answer)
            answered.add(intent.id)
            conn.execute("SELECT pg_notify(%s, '')", (CHANNEL,))


def test_a_barrier_does_not_hold_up_whoever_closes_the_gate(tmp_path: Path, pair: Databases) -> None:
    """That one is a running transaction, which a slot waits for, and it waits for what the worker is to apply."""
    bank = Bank.create(tmp_path, pair, options="barrier_timeout_s = 600\nbatch_age_ms = 20")
    bank.expand_variables()
    inprocess.prepare(bank)
    with inprocess.worker(bank), ThreadPoolExecutor(1) as threads:
        bank.await_streaming()
        with gate.closed_gate(bank.both.shared, bank.name, lock_timeout_ms=1000, deadline=time.monotonic() + 60):
            found = threads.submit(_position_of_a_barrier, bank)
            wait_until(lambda: _is_making_a_slot(bank), lambda: "no slot is made")
            bank.pay(Side.SHARED, 1, 2)  # past the gate
            bank.await_equal()
            assert not found.done()
        assert found.result() > 0


def _position_of_a_barrier(bank: Bank) -> int:
    with WorkerBarriers(bank.context, bank.both)() as barrier:
        return barrier.lsn


def _is_making_a_slot(bank: Bank) -> bool:
    with bank.both.shared.connect("test") as conn:
        return bool(conn.execute("SELECT FROM pg_replication_slots WHERE temporary").fetchall())


def test_a_barrier_that_is_asked_of_a_stream_that_is_stopping_is_taken_by_the_next_one(
    tmp_path: Path, pair: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command right behind a switch: the worker hears of both at once."""
    bank = Bank.create(tmp_path, pair, options="barrier_timeout_s = 5\nbatch_age_ms = 20")
    bank.expand_variables()
    inprocess.prepare(bank)
    stopped: list[bool] = []

    def stops_now(*_: object) -> bool:
        with bank.both.shared.connect("test") as conn:
            is_asked = bool(intents.open_intents(conn, bank.name))
        if not is_asked or stopped:
            return False
        stopped.append(True)
        return True

    with inprocess.worker(bank):
        bank.await_streaming()
        monkeypatch.setattr(control, "_differs", stops_now)
        assert _position_of_a_barrier(bank) > 0
    assert stopped
