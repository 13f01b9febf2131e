"""A driver that lost its lock without knowing, and goes on: the newer one decides, the older one changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn, Self

import psycopg
import pytest

from contexts.databases import Connection, Databases
from contexts.model import Side
from migrator.control import switches
from migrator.control.switches import Switch, SwitchEnded
from migrator.switch import settle
from tests.migrator.commands import run
from tests.migrator.driving import at_point, switch
from tests.migrator.moving import Bank
from tests.migrator.payments import the_open_side
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> Iterator[Bank]:
    made = Bank.create(_folder(tmp_path_factory), module_pair)
    run(made, "prepare", "bank", "--skip-check")
    with made.worker():
        made.await_streaming()
        run(made, "verify", "bank")
        yield made


def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two-drivers")


@pytest.mark.parametrize("point", ["switch.way_back_prepared", "switch.gate_closed", "switch.opening_marked"])
def test_a_switch_that_was_taken_back_meanwhile_stays_so(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    at_point(monkeypatch, point, lambda: _resumed_by_another(bank, "the switch was undone"))
    with pytest.raises(SwitchEnded):
        switch(bank, Side.SERVICE)
    assert (bank.state(), the_open_side(bank)) == ("streaming", Side.SHARED)
    bank.pay(Side.SHARED, 1, 2)
    bank.await_equal()


@pytest.mark.parametrize("by", ["the same driver", "resume"])
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_decision_that_is_still_under_way_when_its_session_is_lost_is_waited_for(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, end: str, by: str
) -> None:
    """The server may be at the COMMIT for long (it waits for a standby), and the client only sees a lost line."""
    with _Undecided(bank, end) as undecided:
        monkeypatch.setattr(switches, "commit", undecided.decide)
        if by == "resume":
            at_point(monkeypatch, "switch.repointed", lambda: monkeypatch.setattr(settle, "settle", _dies))
        with pytest.raises(psycopg.OperationalError) if by == "resume" or end == "ROLLBACK" else nullcontext():
            switch(bank, Side.SERVICE)
        if by == "resume":
            run(bank, "resume", "bank")
    monkeypatch.undo()
    decided = ("switched", Side.SERVICE) if end == "COMMIT" else ("streaming", Side.SHARED)
    assert (bank.state(), the_open_side(bank)) == decided
    bank.pay(decided[1], 1, 2)
    bank.await_equal()
    if end == "COMMIT":
        run(bank, "verify", "bank")
        switch(bank, Side.SHARED)
        run(bank, "verify", "bank")


def test_a_switch_that_was_finished_meanwhile_stays_so(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    at_point(monkeypatch, "switch.committed", lambda: _resumed_by_another(bank, "the switch was finished"))
    with pytest.raises(SwitchEnded):
        switch(bank, Side.SERVICE)
    assert (bank.state(), the_open_side(bank)) == ("switched", Side.SERVICE)
    bank.pay(Side.SERVICE, 1, 2)
    bank.await_equal()


class _Undecided:
    """A transaction that decides a switch, and ends when somebody waits for it."""

    def __init__(self, bank: Bank, end: str) -> None:
        self._conn = bank.both.shared.connect("undecided", autocommit=False)
        self._look = bank.both.shared.connect("test")
        self._end = end
        self._thread = threading.Thread(target=self._run)
        self._commit = switches.commit

    def decide(self, _conn: Connection, together: Sequence[Switch]) -> None:
        self._conn.execute("SELECT 1")  # else its block would be a transaction of its own
        self._commit(self._conn, together)
        self._thread.start()
        raise psycopg.OperationalError("the connection was lost")

    def _run(self) -> None:
        waits = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
        wait_until(lambda: self._look.execute(waits, (self._conn.info.backend_pid,)).fetchone() != (0,))
        self._conn.execute(self._end.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.ident is not None:
            self._thread.join()
        self._conn.close()
        self._look.close()


def _dies(*_: object) -> NoReturn:
    raise psycopg.OperationalError("the driver died")


def _resumed_by_another(bank: Bank, outcome: str) -> None:
    """End the session that holds the driver's lock, as a firewall would; then somebody runs ``resume``."""
    with bank.both.shared.connect("test") as conn:
        holds = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'carveout/driver-lock/bank'"
        conn.execute(holds.replace("count(*)", "pg_terminate_backend(pid)"))
        wait_until(lambda: conn.execute(holds).fetchone() == (0,))
    assert outcome in run(bank, "resume", "bank").out
