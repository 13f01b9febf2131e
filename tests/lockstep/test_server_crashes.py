"""Either server is stopped at once between the steps of a commit: both sides agree when it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from contexts.databases import Database, Databases
from contexts.embedded import Server, available_majors
from contexts.errors import CarveoutError
from contexts.model import Side
from migrator.lockstep import phase
from migrator.shims import lockstep as shim
from tests.conftest import need, server_folder
from tests.lockstep.conftest import OPTIONS, Lockstepped
from tests.migrator.driving import driver
from tests.migrator.inprocess import prepare, worker
from tests.waiting import wait_until

UPDATE = "UPDATE bank.account SET balance = balance + 1 WHERE id = 1"


@pytest.fixture(scope="module")
def own() -> Iterator[dict[Side, Server]]:
    """Two servers that no other test uses."""
    majors = {Side.SHARED: 16, Side.SERVICE: 18}
    for major in majors.values():
        need(f"postgres{major}", major in available_majors(), "install that PostgreSQL server")
    with server_folder() as folder:
        made = {side: Server(folder / side, major).start() for side, major in majors.items()}
        yield made
        for server in made.values():
            server.stop()


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, own: dict[Side, Server]) -> Iterator[Lockstepped]:
    pair = Databases(*(Database(side, own[side].url()) for side in Side))
    made = Lockstepped.create(tmp_path_factory.mktemp("bank"), pair, options=f"{OPTIONS}\nlockstep_fallback_s = 0.5")
    assert isinstance(made, Lockstepped)
    made.expand_variables()
    prepare(made)
    with worker(made):
        made.await_streaming()
        yield made


def balances(bank: Lockstepped) -> list[str]:
    found = []
    for side in Side:
        with bank.both[side].connect("test") as conn:
            row = conn.execute("SELECT balance::text FROM bank.account WHERE id = 1").fetchone()
        assert row
        found.append(str(row[0]))
    return found


def at(monkeypatch: pytest.MonkeyPatch, point: str, action: Callable[[], object]) -> None:
    done: list[str] = []

    def reached(name: str) -> None:
        if name == point and not done:
            done.append(name)
            action()

    monkeypatch.setattr(shim, "kill_point", reached)


CASES = [
    # (where the server stops, which one, whether the payment is there afterwards)
    ("shim.collected", Side.SHARED, False),
    ("shim.prepared", Side.SHARED, False),
    ("shim.decided", Side.SHARED, True),
    ("shim.collected", Side.SERVICE, False),
    ("shim.shipped", Side.SERVICE, False),
    ("shim.prepared", Side.SERVICE, True),
    ("shim.decided", Side.SERVICE, True),
]


@pytest.mark.parametrize(("point", "side", "is_kept"), CASES)
def test_a_server_that_stops_in_mid_commit(
    bank: Lockstepped, own: dict[Side, Server], monkeypatch: pytest.MonkeyPatch, point: str, side: Side, is_kept: bool
) -> None:
    bank.await_streaming()
    bank.pay(Side.SHARED, 5, 6)  # whose arrival shows that the worker has met the servers again
    bank.await_equal()
    before = balances(bank)[0]
    with driver(bank) as run:
        phase.enter(run)
    at(monkeypatch, point, lambda: own[side].stop(immediate=True))
    gated = bank.connections()
    acknowledged = False
    try:
        with gated.transaction() as conn:
            conn.execute(UPDATE)
        acknowledged = True
    except (psycopg.OperationalError, CarveoutError):
        pass
    own[side].start()
    wait_until(lambda: bank.prepared() == 0, lambda: f"{bank.prepared()} prepared")
    wait_until(lambda: len(set(balances(bank))) == 1, lambda: f"{balances(bank)}")
    assert (balances(bank)[0] != before) is is_kept
    assert is_kept or not acknowledged
    bank.cli("dual-write", "bank", "off")  # the worker may have left already
    bank.await_equal()
    assert bank.differences() == []
    gated.close()


def test_a_service_side_that_stays_away_is_left_behind_where_that_is_asked_for(
    bank: Lockstepped, own: dict[Side, Server]
) -> None:
    bank.await_streaming()
    with driver(bank) as run:
        phase.enter(run)
    gated = bank.connections()
    own[Side.SERVICE].stop(immediate=True)
    with pytest.raises(shim.LockstepRefused, match="did not take the write"), gated.transaction() as conn:
        conn.execute(UPDATE)
    bank.await_state("streaming")
    with gated.transaction() as conn:
        conn.execute(UPDATE)
    own[Side.SERVICE].start()
    bank.await_equal()
    gated.close()
