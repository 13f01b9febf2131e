"""When a switch begins, who stands in its way, and how long writes may wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from contexts.databases import Connection, Databases
from contexts.model import Side
from migrator.switch.blockers import Blocked
from migrator.switch.markers import MarkerLost
from migrator.switch.moves import BudgetExceeded
from tests.migrator.commands import Running, run, start
from tests.migrator.driving import at_point, switch
from tests.migrator.moving import Bank
from tests.migrator.payments import the_open_side
from tests.waiting import wait_until

OPTIONS = (
    "max_lag_s = 60\nbatch_age_ms = 20\nlock_timeout_ms = 100\nhold_patience_s = 0.3\nwrite_block_budget_ms = 8000\n"
)
LOCK_WAITS = "SELECT count(*) FROM pg_locks WHERE relation = 'bank.entry'::regclass AND NOT granted"


@pytest.fixture(scope="module")
def shared_bank(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> Iterator[Bank]:
    made = Bank.create(tmp_path_factory.mktemp("moment"), module_pair, options=OPTIONS)
    run(made, "prepare", "bank", "--skip-check")
    with made.worker():
        made.await_streaming()
        run(made, "verify", "bank")
        yield made


@pytest.fixture
def bank(shared_bank: Bank) -> Iterator[Bank]:
    """The bank of this module; every test leaves it open on the shared side, and proven."""
    yield shared_bank
    if shared_bank.state() == "switched":
        shared_bank.await_streaming()
        run(shared_bank, "verify", "bank")
        run(shared_bank, "rollback", "bank")
        shared_bank.await_streaming()
        run(shared_bank, "verify", "bank")
    assert the_open_side(shared_bank) is Side.SHARED


@pytest.fixture
def long_transaction(bank: Bank) -> Iterator[Connection]:
    with closing(bank.both.shared.connect("month end", autocommit=False)) as conn:
        conn.execute("UPDATE bank.account SET owner = owner WHERE id = 1")
        yield conn


def await_status(bank: Bank, driver: Running, text: str) -> None:
    wait_until(lambda: text in run(bank, "status", "bank").out, lambda: str(driver.end(None)))


def test_held_for_an_operator(bank: Bank) -> None:
    assert "no switch is held" in run(bank, "proceed", "bank", expect=4).err
    driver = start(bank, "cutover", "bank", "--hold")
    await_status(bank, driver, "asked: switch to service: is held: carveout proceed")
    assert bank.state() == "streaming"
    assert "goes on" in run(bank, "proceed", "bank").out
    driver.end(0)
    assert the_open_side(bank) is Side.SERVICE
    assert "asked" not in run(bank, "status", "bank").out


def test_cancelled_while_it_waits_for_its_time(bank: Bank) -> None:
    driver = start(bank, "cutover", "bank", "--at", "2099-01-01T04:00+00:00")
    await_status(bank, driver, "waits until 2099-01-01T04:00:00")
    run(bank, "cancel", "bank")
    assert "the switch was cancelled while it waited" in driver.end(4).err
    assert "no switch waits" in run(bank, "cancel", "bank", expect=4).err


@pytest.mark.parametrize("given", ["yesterday", "2001-01-01T04:00"])
def test_a_time_that_is_none(bank: Bank, given: str) -> None:
    assert "Invalid value for '--at'" in run(bank, "cutover", "bank", "--at", given, expect=2).err


def test_tried_again_until_the_way_is_free(bank: Bank, long_transaction: Connection) -> None:
    driver = start(bank, "cutover", "bank", "--retries", "9")
    await_status(bank, driver, "went back, again in")
    long_transaction.rollback()
    driver.end(0)
    assert the_open_side(bank) is Side.SERVICE


def test_when_quiet_waits_for_a_long_transaction(bank: Bank, long_transaction: Connection) -> None:
    driver = start(bank, "cutover", "bank", "--when-quiet")
    await_status(bank, driver, "waits for a quiet moment")
    bank.pay(Side.SHARED, 3, 4)
    long_transaction.rollback()
    driver.end(0)
    assert the_open_side(bank) is Side.SERVICE


def test_a_long_transaction_is_named_before_anybody_waits(bank: Bank, long_transaction: Connection) -> None:
    said = run(bank, "cutover", "bank", expect=1).err
    assert f"pid {long_transaction.info.backend_pid} (postgres, carveout/month end, idle in transaction" in said
    assert "the shared side is open as before, no write had to wait" in said
    assert bank.status()["last_switch"]["write_block_ms"] == 0


def test_blockers_are_ended_on_request(bank: Bank, long_transaction: Connection) -> None:
    run(bank, "cutover", "bank", "--terminate-blockers")
    with pytest.raises(psycopg.OperationalError):
        long_transaction.execute("SELECT 1")
    with bank.both.shared.connect("test") as conn:
        ended = conn.execute("SELECT detail ->> 'session' FROM carveout.event WHERE kind = 'terminated'").fetchall()
    assert any("carveout/month end" in session for (session,) in ended)


def test_a_prepared_transaction_is_named(bank: Bank) -> None:
    with bank.both.shared.connect("test") as conn:
        conn.execute("BEGIN")
        conn.execute("UPDATE bank.account SET owner = owner WHERE id = 1")
        conn.execute("PREPARE TRANSACTION 'forgotten'")
        try:
            assert "prepared transaction 'forgotten'" in run(bank, "cutover", "bank", expect=4).err
        finally:
            conn.execute("ROLLBACK PREPARED 'forgotten'")


def test_a_queue_for_a_lock_is_named_with_its_head(bank: Bank) -> None:
    """A reader is in nobody's way, but who waits for it to alter the table is, and so is everybody behind."""
    with closing(bank.both.shared.connect("report", autocommit=False)) as reader:
        reader.execute("SELECT count(*) FROM bank.entry")
        with closing(bank.both.shared.connect("alter")) as alter, bank.both.shared.connect("test") as conn:
            statement = "LOCK TABLE bank.entry IN ACCESS EXCLUSIVE MODE"
            alter.execute("BEGIN")
            waiting = threading.Thread(target=lambda: alter.execute(statement), daemon=True)
            waiting.start()
            wait_until(lambda: conn.execute(LOCK_WAITS).fetchone() == (1,))
            wait_until(
                lambda: (
                    conn.execute(
                        "SELECT clock_timestamp() - xact_start > '0.2 s' FROM pg_stat_activity WHERE pid = %s",
                        (alter.info.backend_pid,),
                    ).fetchone()
                    == (True,)
                )
            )
            said = run(bank, "cutover", "bank", expect=1).err
            pids = alter.info.backend_pid, reader.info.backend_pid
            reader.rollback()
            waiting.join(30)
            alter.execute("ROLLBACK")
    assert f"pid {pids[0]} (postgres, carveout/alter, active" in said
    assert f"itself waits for pid {pids[1]})" in said


def test_past_the_budget_the_switch_goes_back(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    at_point(monkeypatch, "switch.drained", lambda: never.wait(0.1))  # a step that takes longer than all may
    path = bank.folder / "contexts" / "bank" / "context.toml"
    declared = path.read_text()
    path.write_text(declared.replace("write_block_budget_ms = 8000", "write_block_budget_ms = 50"))
    try:
        with pytest.raises((BudgetExceeded, MarkerLost, Blocked)):  # whichever of the steps meets the limit first
            switch(bank, Side.SERVICE)
    finally:
        path.write_text(declared)
    last = bank.status()["last_switch"]
    assert last["outcome"] == "undone"
    assert last["write_block_ms"] > 0
