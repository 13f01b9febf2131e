"""A server crashes in mid-migration: the worker comes back by itself, ``resume`` ends a switch, nothing is lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from contexts.databases import Database, Databases
from contexts.embedded import Server, available_majors
from contexts.errors import NeedsHuman
from contexts.model import Side
from migrator.control import locks
from tests.conftest import need, server_folder
from tests.migrator.commands import run
from tests.migrator.driving import at_point, switch
from tests.migrator.moving import Bank
from tests.migrator.payments import Payments, assert_whole
from tests.waiting import wait_until

_numbers = itertools.count(1)
OPTIONS = "batch_age_ms = 20\nswitch_deadline_ms = 5000"


@pytest.fixture(scope="module")
def own() -> Iterator[dict[Side, Server]]:
    """Two servers that no other test uses."""
    for major in (16, 18):
        need(f"postgres{major}", major in available_majors(), "install that PostgreSQL server")
    with server_folder() as folder:
        made = {
            Side.SHARED: Server(folder / "shared", 16).start(),
            Side.SERVICE: Server(folder / "service", 18).start(),
        }
        yield made
        for server in made.values():
            server.stop()


@pytest.fixture
def bank(tmp_path: Path, own: dict[Side, Server]) -> Bank:
    name = f"crash{next(_numbers)}"
    for server in own.values():
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    pair = Databases(*(Database(side, own[side].url(name)) for side in Side))
    made = Bank.create(tmp_path, pair, options=OPTIONS)
    run(made, "prepare", "bank", "--skip-check")
    return made


@pytest.fixture
def payments(bank: Bank) -> Iterator[Payments]:
    with Payments(bank) as paying:
        yield paying


def crash(server: Server) -> None:
    """End it as a crash does, and start it again."""
    server.stop(immediate=True)
    server.start()


@pytest.mark.parametrize("side", list(Side))
def test_in_the_copy(bank: Bank, payments: Payments, own: dict[Side, Server], side: Side) -> None:
    with bank.worker():
        with closing(bank.both.service.connect("test", autocommit=False)) as lock:
            lock.execute("LOCK TABLE bank.account, bank.entry IN SHARE MODE")
            wait_until(bank.waits_for_a_lock, bank.worker_log)  # a part is under way
            crash(own[side])
        bank.await_streaming()
        assert assert_whole(bank, payments) is Side.SHARED
        _assert_worker_is_known(bank)


def test_while_applying_and_switching(
    bank: Bank, payments: Payments, own: dict[Side, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    with bank.worker():
        bank.await_streaming()
        for side in Side:
            crash(own[side])
            assert assert_whole(bank, payments) is Side.SHARED
            bank.await_streaming()
            _assert_worker_is_known(bank)
        run(bank, "verify", "bank")
        for side in Side:
            at_point(monkeypatch, "switch.fenced", lambda side=side: own[side].stop(immediate=True))  # type: ignore[misc]
            with pytest.raises(NeedsHuman, match="could not be settled"):
                switch(bank, Side.SERVICE)
            own[side].start()
            assert "was undone" in run(bank, "resume", "bank").out
            assert assert_whole(bank, payments) is Side.SHARED
            bank.await_streaming()
        _target_dies_undecided(bank, payments, own, monkeypatch)
        for side, target in ((Side.SHARED, Side.SERVICE), (Side.SERVICE, Side.SHARED)):
            at_point(monkeypatch, "switch.committed", lambda side=side: own[side].stop(immediate=True))  # type: ignore[misc]
            with pytest.raises(NeedsHuman, match="could not be settled"):
                switch(bank, target)
            own[side].start()
            assert "was finished" in run(bank, "resume", "bank").out
            assert assert_whole(bank, payments) is target
            bank.await_streaming()
            _assert_worker_is_known(bank)
            run(bank, "verify", "bank")
        run(bank, "cutover", "bank")
        assert assert_whole(bank, payments) is Side.SERVICE
        run(bank, "complete", "bank", "--confirm", "bank")


def _target_dies_undecided(
    bank: Bank, payments: Payments, own: dict[Side, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last moment before the decision: the switch goes back, and payments do not wait for the dead side."""
    run(bank, "verify", "bank")  # the worker has caught up
    at_point(monkeypatch, "switch.repointed", lambda: own[Side.SERVICE].stop(immediate=True))
    with pytest.raises(NeedsHuman, match="could not be settled"):
        switch(bank, Side.SERVICE)
    paid = len(payments.acknowledged)
    wait_until(lambda: len(payments.acknowledged) > paid)
    own[Side.SERVICE].start()
    assert "was undone" in run(bank, "resume", "bank").out
    assert assert_whole(bank, payments) is Side.SHARED
    bank.await_streaming()
    _assert_worker_is_known(bank)
    run(bank, "verify", "bank")


def _assert_worker_is_known(bank: Bank) -> None:
    """Its lock went with the crashed server: without it a second worker could start, and ``verify`` refuses."""
    with bank.both.shared.connect("test") as conn:
        wait_until(lambda: locks.is_held(conn, bank.name, "worker"), bank.worker_log)
