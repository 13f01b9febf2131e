"""What the audit and the census find: writes past the shim, rows that differ, writers that must be asked first."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from contexts.errors import RefusedError
from contexts.model import Side
from migrator.lockstep import conditions, phase, recovery
from migrator.repair import run as repairing
from migrator.shims import lockstep as shim
from migrator.shims.direct import GatedConnections
from tests.lockstep.conftest import Lockstepped
from tests.migrator.driving import driver
from tests.migrator.test_json import documented
from tests.waiting import wait_until


def rogue(bank: Lockstepped, side: Side, statement: str) -> None:
    """Write as somebody whom no trigger stops."""
    with bank.both[side].connect("test", session_replication_role="replica") as conn:
        conn.execute(statement.encode())


def assert_mended(bank: Lockstepped) -> None:
    """The worker copies what was found again, and both sides are equal."""
    bank.await_equal()
    wait_until(lambda: bank.count("SELECT count(*) FROM carveout.lockstep_difference WHERE repaired_at IS NULL") == 0)


def test_a_write_past_the_shim_is_found_and_lockstep_is_left(bank: Lockstepped, gated: GatedConnections) -> None:
    bank.await_equal()
    with driver(bank) as run:
        phase.enter(run)
    before = len(bank.differences())
    rogue(bank, Side.SHARED, "UPDATE bank.account SET balance = balance + 1 WHERE id = 12")
    bank.await_state("streaming")
    assert bank.differences()[before:] == [("unmarked", "account", ["12"], [])]
    assert_mended(bank)


def test_lockstep_does_not_begin_over_differences(bank: Lockstepped) -> None:
    bank.await_equal()
    insert = (
        "INSERT INTO carveout.lockstep_difference (context, gid, end_lsn, table_schema, table_name, key, kind, columns)"
    )
    with bank.both.service.connect("test") as conn, driver(bank) as run:
        conn.execute(
            f"{insert} VALUES ('bank', 'xid 1', '0/1', 'bank', 'account', '{{}}', 'truncate', '{{}}')".encode()
        )
        with pytest.raises(RefusedError, match="1 differences of an earlier audit"):
            conditions.require(run)
        conn.execute("DELETE FROM carveout.lockstep_difference WHERE kind = 'truncate'")


CORRUPTIONS = {
    # What the receiving function writes is changed on its way: (statement, expected finding).
    "another value": ("NEW.owner := NEW.owner || '?'; RETURN NEW;", ("different", "account", ["13"], ["owner"])),
    "not written": ("RETURN NULL;", ("different", "account", ["13"], ["balance"])),
}


@pytest.mark.parametrize(("body", "finding"), CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_a_row_that_is_not_what_was_written_is_found(
    bank: Lockstepped, gated: GatedConnections, body: str, finding: tuple[object, ...]
) -> None:
    bank.await_equal()
    with bank.both.service.connect("test") as conn:
        conn.execute(
            f"CREATE FUNCTION bank.spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
            "CREATE TRIGGER spoil BEFORE UPDATE ON bank.account FOR EACH ROW EXECUTE FUNCTION bank.spoil();"
            "ALTER TABLE bank.account ENABLE ALWAYS TRIGGER spoil".encode()
        )
    before = len(bank.differences())
    try:
        with driver(bank) as run:
            phase.enter(run)
        with gated.transaction() as conn:
            conn.execute("UPDATE bank.account SET balance = balance + 1 WHERE id = 13")
        bank.await_state("streaming")
    finally:
        with bank.both.service.connect("test") as conn:
            conn.execute("DROP TRIGGER spoil ON bank.account; DROP FUNCTION bank.spoil()")
    assert bank.differences()[before:] == [finding]
    assert_mended(bank)


def insert(conn: psycopg.Connection) -> None:
    conn.execute("INSERT INTO bank.entry (account, amount, memo) VALUES (14, 1, 'never shipped')")


def copy(conn: psycopg.Connection) -> None:
    with conn.cursor().copy("COPY bank.entry (account, amount, memo) FROM STDIN") as rows:
        rows.write_row((14, 1, "never shipped"))


@pytest.mark.parametrize("way", [insert, copy])
def test_a_collection_that_misses_rows_is_found(
    bank: Lockstepped, gated: GatedConnections, way: Callable[[psycopg.Connection], None]
) -> None:
    """A shim whose trigger does not fire for inserts or COPY, so that their rows are never shipped."""
    bank.await_equal()
    before = len(bank.differences())
    with driver(bank) as run:
        phase.enter(run)
    with bank.both.shared.connect("test") as conn:
        conn.execute("ALTER TABLE bank.entry DISABLE TRIGGER carveout_lockstep_insert")
    with gated.transaction() as conn:
        conn.execute("UPDATE bank.account SET balance = balance + 1 WHERE id = 14")
        way(conn)
    bank.await_state("streaming")
    found = bank.differences()[before:]
    assert [(kind, table) for kind, table, _, _ in found] == [("not shipped", "entry")]
    assert_mended(bank)


def test_mending_goes_on_after_a_repair_that_was_broken_off(
    bank: Lockstepped, gated: GatedConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays unfinished, and would keep every later one out."""
    bank.await_equal()
    work = repairing._Job.work
    broken: list[int] = []

    def breaks_once(job: repairing._Job, *arguments: Any) -> None:
        if not broken:
            broken.append(job.repair)
            raise psycopg.OperationalError("the connection is lost")
        work(job, *arguments)

    monkeypatch.setattr(repairing._Job, "work", breaks_once)
    with driver(bank) as run:
        phase.enter(run)
    rogue(bank, Side.SHARED, "UPDATE bank.account SET balance = balance + 1 WHERE id = 16")
    bank.await_state("streaming")
    assert_mended(bank)
    assert broken


def test_a_recovery_that_guesses_is_found(
    bank: Lockstepped, gated: GatedConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It rolls back what an application at work has prepared: the shared side commits, the service side does not."""
    bank.await_equal()
    before = len(bank.differences())

    def at(point: str) -> None:
        if point == "shim.prepared":
            wait_until(lambda: bank.prepared() == 0)

    with monkeypatch.context() as mutant:
        mutant.setattr(recovery, "decision", lambda *_: False)
        mutant.setattr(shim, "kill_point", at)
        with driver(bank) as run:
            phase.enter(run)
        with gated.transaction() as conn:
            conn.execute("UPDATE bank.account SET balance = balance + 1 WHERE id = 15")
        bank.await_state("streaming")
    assert bank.differences()[before:] == [("missing", "account", ["15"], [])]
    assert_mended(bank)


def test_writers_without_the_shim_are_named_before_it_begins(bank: Lockstepped, gated: GatedConnections) -> None:
    with driver(bank) as run:
        phase.observe(run, wanted=True)
    for _ in range(2):
        with psycopg.connect(bank.both.shared.url, application_name="nightly job") as conn:
            conn.execute("UPDATE bank.account SET balance = balance WHERE id = 1")
            conn.execute("INSERT INTO bank.entry (account, amount) VALUES (1, 0)")
    with gated.transaction() as conn:
        conn.execute("UPDATE bank.account SET balance = balance WHERE id = 2")
    wait_until(lambda: bank.count("SELECT sum(transactions) FROM carveout.unshimmed_writer") == 2, lambda: "no census")
    shown = json.loads(bank.cli("status", "bank", "--json").stdout)["lockstep"]
    assert shown.keys() == documented("status.lockstep")
    (writer,) = shown["unshimmed"]
    assert (writer["table"], writer["role"], writer["application"]) == ("bank.account", "postgres", "nightly job")
    path = bank.folder / "contexts" / "bank" / "context.toml"
    declared = path.read_text()
    path.write_text(declared.replace("lockstep_census_s = 0", "lockstep_census_s = 3600"))
    refused = bank.cli("dual-write", "bank", "on", expect=4).stderr
    assert "are wanted" in refused
    assert "role postgres (application nightly job) writes bank.account without the shim, 2 transactions" in refused
    path.write_text(declared)
    bank.cli("dual-write", "bank", "off")
    bank.await_equal()


def test_the_commands_enter_and_leave(bank: Lockstepped, gated: GatedConnections) -> None:
    shown = bank.cli("dual-write", "bank", "on", "--dry-run").stdout
    assert "carveout_lockstep_guard" in shown
    assert bank.state() == "streaming"
    assert "writes waited for" in bank.cli("dual-write", "bank", "on").stdout
    assert bank.state() == "lockstep"
    bank.cli("reads", "bank", "--service", "25%")
    assert json.loads(bank.cli("status", "bank", "--json").stdout)["lockstep"]["service_reads"] == 25
    assert bank.cli("verify", "bank", expect=None).returncode in (0, 4)
    with gated.transaction() as conn:
        conn.execute("UPDATE bank.account SET balance = balance + 1 WHERE id = 3")
    bank.cli("dual-write", "bank", "off")
    bank.cli("reads", "bank", "--service", "5", expect=4)
    bank.await_equal()
