"""A switch that cannot finish goes back, and only one driver and one worker are at work."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import psycopg
import pytest

from contexts.databases import Connection, Database, Databases
from contexts.embedded import Server
from contexts.errors import RefusedError
from contexts.model import Side
from migrator.switch import conditions, switching
from migrator.switch.blockers import Blocked
from migrator.switch.markers import MarkerLost
from migrator.switch.procedure import Interrupted
from tests.conftest import drop_database
from tests.migrator import driving
from tests.migrator.commands import Running, run, run_killed_at, start
from tests.migrator.driving import at_point, switch
from tests.migrator.moving import Bank, WorkerProcess
from tests.migrator.payments import the_open_side
from tests.waiting import wait_until

OPTIONS = "max_lag_s = 60\nbatch_age_ms = 20\nswitch_deadline_ms = 3000\nlock_timeout_ms = 100\nhold_patience_s = 3"


@dataclass
class Moving:
    """A bank that streams and is proven, and its worker."""

    bank: Bank
    worker: WorkerProcess

    def assert_back(self) -> None:
        """The shared side is open as before, and everything goes on."""
        assert self.bank.state() == "streaming"
        assert the_open_side(self.bank) is Side.SHARED
        self.bank.pay(Side.SHARED, 1, 2)
        self.bank.await_streaming()
        self.bank.await_equal()
        for side in Side:
            assert _one(self.bank, side, "SELECT count(*) FROM pg_replication_slots"
                        " WHERE database = current_database()") == (side is Side.SHARED)  # fmt: skip


@pytest.fixture(scope="module")
def shared_moving(servers: Callable[[int], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moving]:
    made = {Side.SHARED: servers(16), Side.SERVICE: servers(18)}
    for server in made.values():
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute("CREATE DATABASE switch_back")
    pair = Databases(*(Database(side, made[side].url("switch_back")) for side in Side))
    bank = Bank.create(tmp_path_factory.mktemp("switch_back"), pair, options=OPTIONS)
    run(bank, "prepare", "bank", "--skip-check")
    moving = Moving(bank, bank.worker())
    bank.await_streaming()
    run(bank, "verify", "bank")
    yield moving
    moving.worker.stop()
    for server in made.values():
        drop_database(server, "switch_back")


@pytest.fixture
def moving(shared_moving: Moving) -> Iterator[Moving]:
    """The bank of this module; every test leaves it as it found it."""
    yield shared_moving
    shared_moving.assert_back()


@pytest.fixture
def locked_row(moving: Moving) -> Iterator[Connection]:
    """Somebody's transaction that has written and does not end."""
    with closing(moving.bank.both.shared.connect("long report", autocommit=False)) as conn:
        conn.execute("UPDATE bank.account SET owner = owner WHERE id = 1")
        yield conn


def test_a_long_transaction_stands_in_the_way_and_is_named(moving: Moving, locked_row: Connection) -> None:
    failed = run(moving.bank, "cutover", "bank", expect=1)
    assert f"pid {locked_row.info.backend_pid} (postgres, carveout/long report, idle in transaction" in failed.err
    assert "unchanged: the shared side is open as before" in failed.err
    assert "next: end them (--terminate-blockers does so)" in failed.err
    assert moving.bank.state() == "streaming"
    moving.bank.pay(Side.SHARED, 3, 4)  # while the long transaction still runs


def test_a_long_gated_transaction_blocks_the_gate(moving: Moving) -> None:
    with closing(moving.bank.both.shared.connect("test", autocommit=False)) as conn:
        conn.execute("LOCK TABLE carveout.gate_bank IN ACCESS SHARE MODE")
        with pytest.raises(Blocked, match="gated transactions on the shared side did not end in time"):
            switch(moving.bank, Side.SERVICE)


def test_a_worker_that_hangs_in_the_drain(moving: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    hang = moving.worker.process
    at_point(monkeypatch, "switch.gate_closed", lambda: hang.send_signal(signal.SIGSTOP))
    try:
        with pytest.raises(MarkerLost, match="has not come through the stream in time"):
            switch(moving.bank, Side.SERVICE)
        assert the_open_side(moving.bank) is Side.SHARED
    finally:
        hang.send_signal(signal.SIGCONT)


def test_a_worker_that_is_killed_in_the_drain(moving: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    at_point(monkeypatch, "switch.gate_closed", moving.worker.kill)
    with pytest.raises(MarkerLost):
        switch(moving.bank, Side.SERVICE)
    assert the_open_side(moving.bank) is Side.SHARED
    monkeypatch.setattr(conditions, "PROBE_S", 0.3)
    with pytest.raises(RefusedError, match=r"no worker is running|a probe did not come through"):
        switch(moving.bank, Side.SERVICE)  # the report of the dead worker may still be young
    moving.worker = moving.bank.worker()
    pid = moving.worker.process.pid
    # It begins with what was written when there was none, and counts as behind until it has heard of the end.
    query = f"SELECT count(*) FROM carveout.worker WHERE pid = {pid} AND (report ->> 'lag_s')::float8 < 1"
    wait_until(lambda: _one(moving.bank, Side.SHARED, query) == 1, moving.bank.worker_log)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_driver_goes_back(
    moving: Moving, monkeypatch: pytest.MonkeyPatch, locked_row: Connection, number: signal.Signals
) -> None:
    driver = start(moving.bank, "cutover", "bank")
    _await_fence(moving.bank, driver)
    driver.send(number)
    driver.end(1)
    assert moving.bank.state() == "streaming"


@pytest.mark.parametrize("side", list(Side))
def test_a_driver_interrupted_before_it_waits_goes_back(
    moving: Moving, monkeypatch: pytest.MonkeyPatch, side: Side
) -> None:
    with driving.driver(moving.bank) as at_work:

        def interrupt() -> None:
            at_work.executor.connection(side).pgconn.send_query(b"BEGIN; SELECT pg_sleep(3600)")
            raise KeyboardInterrupt

        at_point(monkeypatch, "switch.fenced", interrupt)
        with pytest.raises(Interrupted):
            switching.switch(at_work, Side.SERVICE)
    assert moving.bank.state() == "streaming"
    assert the_open_side(moving.bank) is Side.SHARED


def test_a_second_driver_and_a_second_worker_are_refused(moving: Moving, locked_row: Connection) -> None:
    driver = start(moving.bank, "cutover", "bank")
    _await_fence(moving.bank, driver)
    driver.send(signal.SIGSTOP)  # its time would be over before the others have been told
    for verb in ("cutover", "resume", "abort"):
        refused = run(moving.bank, verb, "bank", *(["--confirm", "bank"] if verb == "abort" else []), expect=4)
        assert re.search(r"another driver is at work \(server process \d+, role postgres, since ", refused.err)
    driver.send(signal.SIGCONT)
    driver.end(1)
    refused = run(moving.bank, "worker", "bank", expect=4)
    assert re.search(r"another worker is at work \(server process \d+, role postgres, since ", refused.err)


def test_doctor_and_the_others_at_a_half_done_switch(moving: Moving) -> None:
    bank = moving.bank
    run_killed_at(bank, "switch.fenced", "cutover", "bank")
    said = run(bank, "doctor", "bank", expect=5).out
    assert "! a switch from shared to service is half done (its driver is gone); nothing is decided" in said
    assert "`carveout resume bank` opens the shared side again" in said
    assert "the shared side is closed for application writes" in said
    assert "next: carveout resume bank" in run(bank, "abort", "bank", "--confirm", "bank", expect=4).err
    assert "carveout resume bank" in run(bank, "status", "bank").out
    for verb in ("cutover", "rollback", "prepare", "complete"):
        confirm = ["--confirm", "bank"] if verb == "complete" else []
        assert "next: carveout resume bank" in run(bank, verb, "bank", *confirm, expect=4).err
    run(bank, "resume", "bank")
    assert run(bank, "doctor", "bank").out.splitlines()[-1] == "a worker is running"


def test_doctor_after_the_point_of_no_return(moving: Moving) -> None:
    bank = moving.bank
    run_killed_at(bank, "switch.committed", "cutover", "bank")
    said = run(bank, "doctor", "bank", expect=5).out
    assert "it is past the point of no return: `carveout resume bank` opens the service side" in said
    assert "the service side is closed for application writes" in said
    assert "next: carveout resume bank" in run(bank, "abort", "bank", "--confirm", "bank", expect=4).err
    run(bank, "resume", "bank")
    assert the_open_side(bank) is Side.SERVICE
    assert "next: carveout rollback bank" in run(bank, "abort", "bank", "--confirm", "bank", expect=4).err
    bank.await_streaming()
    run(bank, "verify", "bank")
    run(bank, "rollback", "bank")
    bank.await_streaming()
    run(bank, "verify", "bank")


def _await_fence(bank: Bank, driver: Running) -> None:
    wait_until(lambda: _journal(bank) == ["way_back_prepared"], lambda: str(driver.end(None)))


def _journal(bank: Bank) -> list[str]:
    with bank.both.shared.connect("test") as conn:
        rows = conn.execute(
            "SELECT step FROM carveout.journal j JOIN carveout.switch s ON s.id = j.switch"
            " WHERE s.outcome = 'running' ORDER BY at"
        ).fetchall()
    return [step for (step,) in rows]


def _one(bank: Bank, side: Side, query: str) -> object:
    with bank.both[side].connect("test") as conn:
        row = conn.execute(query).fetchone()
    assert row is not None
    return row[0]
