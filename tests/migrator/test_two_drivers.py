"""A driver that lost its lock without knowing, and goes on: the newer one decides, the older one changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contexts.databases import Databases
from contexts.model import Side
from migrator.control.switches import SwitchEnded
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


def test_a_switch_that_was_finished_meanwhile_stays_so(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    at_point(monkeypatch, "switch.committed", lambda: _resumed_by_another(bank, "the switch was finished"))
    with pytest.raises(SwitchEnded):
        switch(bank, Side.SERVICE)
    assert (bank.state(), the_open_side(bank)) == ("switched", Side.SERVICE)
    bank.pay(Side.SERVICE, 1, 2)
    bank.await_equal()


def _resumed_by_another(bank: Bank, outcome: str) -> None:
    """End the session that holds the driver's lock, as a firewall would; then somebody runs ``resume``."""
    with bank.both.shared.connect("test") as conn:
        holds = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'carveout/driver-lock/bank'"
        conn.execute(holds.replace("count(*)", "pg_terminate_backend(pid)"))
        wait_until(lambda: conn.execute(holds).fetchone() == (0,))
    assert outcome in run(bank, "resume", "bank").out
