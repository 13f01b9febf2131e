"""The way back is proven before it is needed, and what only a human can decide has its statements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from contexts.databases import Database, Databases
from contexts.embedded import free_port
from contexts.model import Side
from migrator import doctor
from migrator.cli.common import run_of
from migrator.switch import probe
from migrator.switch.probe import CannotApply
from migrator.switch.wayback import WayBackBroken
from tests.migrator import inprocess
from tests.migrator.commands import run
from tests.migrator.driving import at_point, switch
from tests.migrator.moving import Bank
from tests.waiting import wait_until

SHARED, SERVICE = Side.SHARED, Side.SERVICE


def moving(folder: Path, pair: Databases, options: str = "") -> Bank:
    bank = Bank.create(folder, pair, options=options)
    bank.expand_variables()
    inprocess.prepare(bank)
    return bank


def diagnosed(bank: Bank, both: Databases | None = None) -> list[str]:
    with run_of(bank.context, both or bank.both, "test") as one:
        return doctor.diagnose(one)


def statements(lines: list[str], side: Side) -> list[str]:
    return [line.partition(": ")[2] for line in lines if line.startswith(f"    {side}: ")]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> Iterator[Bank]:
    made = moving(tmp_path_factory.mktemp("back"), module_pair, "watch_interval_s = 60")
    with inprocess.worker(made):
        made.await_streaming()
        inprocess.verify(made)
        yield made


def test_rows_must_come_out_of_the_reverse_slot(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publication that lost a table would lose its writes; here it is found before anybody waits."""
    with psycopg.connect(bank.both.service.url, autocommit=True) as conn:
        conn.execute("CREATE PUBLICATION carveout_bank FOR TABLE bank.account")
        with pytest.raises(WayBackBroken, match="gives 1 of 2 rows of the probe"):
            switch(bank, SERVICE)
        conn.execute("DROP PUBLICATION carveout_bank")
    assert bank.state() == "streaming"
    assert bank.is_open(SHARED)
    bank.await_equal()


def test_rights_on_the_side_that_closes_are_tried(bank: Bank) -> None:
    with bank.both.shared.connect("test") as conn:
        conn.execute("CREATE ROLE back_weak; GRANT SET ON PARAMETER session_replication_role TO back_weak")
        conn.execute(
            "GRANT USAGE ON SCHEMA bank TO back_weak; GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA bank TO back_weak"
        )
    try:
        with run_of(bank.context, bank.both, "test") as one:
            probe.require_applicable(one, SHARED)
            one.tables(SHARED)
            one.control.execute("SET ROLE back_weak")
            with pytest.raises(CannotApply, match=r"could not write bank.account on the shared side: permission"):
                probe.require_applicable(one, SHARED)
    finally:
        with bank.both.shared.connect("test") as conn:
            conn.execute("REVOKE ALL ON PARAMETER session_replication_role FROM back_weak")
            conn.execute("DROP OWNED BY back_weak; DROP ROLE back_weak")


def test_two_open_sides_are_named_with_their_statements(bank: Bank) -> None:
    with psycopg.connect(bank.both.service.url, autocommit=True) as conn:
        conn.execute("ALTER TABLE bank.account DISABLE TRIGGER carveout_write_lock")
        conn.execute("DROP TRIGGER carveout_write_lock ON bank.entry")
        found = diagnosed(bank)
        assert "! the service side should be closed: writes there do not reach the other side; run there" in found
        for statement in statements(found, SERVICE):
            conn.execute(statement)
    assert not [line for line in diagnosed(bank) if line.startswith("!")]
    assert not bank.is_open(SERVICE)


def test_resume_and_abort_are_foretold(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(line.startswith("abort would remove all that was made") for line in diagnosed(bank))
    seen: list[str] = []
    at_point(monkeypatch, "switch.fenced", lambda: seen.extend(diagnosed(bank)))
    switch(bank, SERVICE)
    assert "resume would open the shared side and end the switch; abort refuses until then" in seen
    bank.await_streaming()
    assert any(line.startswith("abort refuses, since it would lose the writes") for line in diagnosed(bank))


def test_a_lost_service_side_leaves_a_decision(bank: Bank) -> None:
    """After the cutover of the test before: the service server is away, and nobody else can decide."""
    away = Database(SERVICE, f"postgresql://postgres@127.0.0.1:{free_port()}/none")
    found = diagnosed(bank, Databases(bank.both.shared, away))
    assert any(line.startswith("! only you can decide: wait until the service database is back") for line in found)
    commands = statements(found, SHARED)
    assert (commands[0], commands[-1]) == ("BEGIN;", "COMMIT;")
    with psycopg.connect(bank.both.shared.url, autocommit=True) as conn, conn.transaction(force_rollback=True):
        for statement in commands[1:-1]:
            conn.execute(statement)
        conn.execute("UPDATE bank.account SET balance = balance")  # it is open
        row = conn.execute("SELECT state, open_side FROM carveout.migration").fetchone()
        assert row == ("streaming", "shared")


def test_the_health_of_the_way_back_is_shown_until_it_is_lost(bank: Bank) -> None:
    wait_until(lambda: json.loads(run(bank, "status", "bank", "--json").out)["way_back"] is not None)
    status = json.loads(run(bank, "status", "bank", "--json").out)
    assert (status["way_back"]["possible"], status["way_back"]["wal_status"]) == (True, "reserved")
    assert "way back: possible; " in run(bank, "status", "bank").out
    assert not [line for line in diagnosed(bank) if line.startswith("!")]
