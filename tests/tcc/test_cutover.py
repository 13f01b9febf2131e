"""A switch waits for the tries that are pending, refuses over one that nobody ends, and moves the barrier along."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from contexts.databases import Databases
from contexts.errors import RefusedError
from contexts.model import Side
from migrator.switch import switching, tries
from migrator.tcc.barrier import Barrier
from migrator.tcc.statements import statements
from tests.migrator.driving import driver
from tests.migrator.inprocess import prepare, project, verify, worker
from tests.migrator.moving import Bank


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Iterator[Bank]:
    with pair.shared.connect("test") as conn:
        conn.execute("CREATE SCHEMA bank")
        conn.execute(statements("bank")["barrier"].encode())
    made = project(tmp_path, pair, "bank", "bank.tcc_branch", options="batch_age_ms = 20")
    prepare(made)
    with worker(made):
        made.await_streaming()
        yield made


def later(seconds: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)


def test_a_try_that_nobody_ends_refuses_the_switch(bank: Bank) -> None:
    barrier, gid = Barrier("bank", "b"), uuid.uuid4()
    with psycopg.connect(bank.both.shared.url) as conn:
        barrier.try_(conn, gid, later(-1))
    verify(bank)
    with driver(bank) as run, pytest.raises(RefusedError, match=r"1 tries in bank\.tcc_branch are pending beyond"):
        switching.switch(run, Side.SERVICE)


def test_a_try_within_its_limit_is_waited_for(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier, gid, waits = Barrier("bank", "b"), uuid.uuid4(), threading.Event()
    with psycopg.connect(bank.both.shared.url) as conn:
        barrier.try_(conn, gid, later(50))
    verify(bank)
    monkeypatch.setattr(tries, "_pause", waits.set)

    def confirm() -> None:
        waits.wait()
        with psycopg.connect(bank.both.shared.url) as conn:
            barrier.confirm(conn, gid)

    thread = threading.Thread(target=confirm)
    thread.start()
    with driver(bank) as run:
        switching.switch(run, Side.SERVICE)
    thread.join()
    with psycopg.connect(bank.both.service.url) as conn:
        assert not barrier.confirm(conn, gid)  # it is confirmed there already


def test_a_try_that_is_too_slow_is_ended_on_the_other_side(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "PATIENCE_S", 0.2)
    barrier, gid = Barrier("bank", "b"), uuid.uuid4()
    with psycopg.connect(bank.both.shared.url) as conn:
        barrier.try_(conn, gid, later(600))
    verify(bank)
    with driver(bank) as run:
        switching.switch(run, Side.SERVICE)
    with psycopg.connect(bank.both.service.url) as conn:
        assert barrier.confirm(conn, gid)
