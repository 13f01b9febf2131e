"""Repair: exactly the keys that differ, under live payments, once each, and never an older row over a newer one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from contexts.databases import Connection, Databases
from contexts.errors import RefusedError
from contexts.model import Side, TableName
from migrator.barriers import WorkerBarriers
from migrator.repair import run as repairing
from migrator.repair.choose import Wanted
from migrator.repair.rows import MovedOn
from tests.migrator import inprocess
from tests.migrator.commands import run, run_killed_at
from tests.migrator.driving import driver, switch
from tests.migrator.moving import Bank
from tests.migrator.payments import Payments
from tests.waiting import wait_until

#: What is wrong on the closed side in each test: class of the account's row by id.
DAMAGE = {203: "different", 204: "missing_on_closed", 205: "different", 990: "missing_on_open", 991: "missing_on_open"}
REPAIR_POINTS = ("chosen", "begun", "rows_written", "committed", "batch_done", "batch_done:2")
ACCOUNT = TableName("bank", "account")


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> Iterator[Bank]:
    """A streaming bank; payments go between the accounts up to 200."""
    made = Bank.create(tmp_path_factory.mktemp("bank"), module_pair, accounts=210)
    run(made, "prepare", "bank", "--skip-check")
    refused = run(made, "repair", "bank", expect=4)
    assert "this needs streaming or lockstep or switched" in refused.err
    with inprocess.worker(made):
        made.await_streaming()
        yield made


@pytest.fixture
def damaged(bank: Bank) -> Iterator[Bank]:
    with rogue(bank, Side.SERVICE) as conn:
        damage(conn)
    yield bank
    with bank.both.service.connect("test") as conn:
        conn.execute("UPDATE carveout.repair SET finished_at = now() WHERE finished_at IS NULL")
    repair_everything(bank)


@contextmanager
def rogue(bank: Bank, side: Side) -> Iterator[Connection]:
    with bank.both[side].connect("test", session_replication_role="replica") as conn:
        yield conn


def damage(conn: Connection) -> None:
    conn.execute("UPDATE bank.account SET balance = balance + 0.01 WHERE id = 203")
    conn.execute("UPDATE bank.account SET owner = NULLIF(owner, '') || ' ' WHERE id = 205")
    conn.execute("DELETE FROM bank.account WHERE id = 204")
    conn.execute("INSERT INTO bank.account VALUES (990, 'ghost', 1), (991, 'ghost', 2)")


def repair_everything(bank: Bank) -> None:
    with driver(bank) as at_work:
        done = repairing.repair(at_work, Wanted(ACCOUNT, tuple(map(str, DAMAGE))))
    assert done.differences == ()


def log_of(bank: Bank) -> dict[int, Any]:
    with bank.both.service.connect("test") as conn:
        return {
            int(key[0]): rest
            for key, *rest in conn.execute(
                "SELECT key, kind, lsn IS NOT NULL, made_by = session_user, begun_at <= done_at"
                " FROM carveout.repair_key WHERE repair = (SELECT max(id) FROM carveout.repair)"
            )
        }


def test_all_that_was_found_is_repaired_and_logged(damaged: Bank) -> None:
    with Payments(damaged) as payments:
        found = json.loads(run(damaged, "verify", "bank", "--json", expect=3).out)
        assert found["differences"] == 5
        planned = json.loads(run(damaged, "repair", "bank", "--dry-run", "--json").out)
        assert {int(d["key"][0]): d["kind"] for d in planned["differences"]} == DAMAGE
        assert (planned["dry_run"], planned["repaired"], planned["keys"]) == (True, 0, 5)
        with damaged.both.service.connect("test") as conn:
            assert conn.execute("SELECT count(*) FROM bank.account WHERE id >= 990").fetchone() == (2,)

        done = json.loads(run(damaged, "repair", "bank", "--json").out)
        assert (done["repaired"], done["keys"], done["differences"]) == (5, 5, [])
        assert (done["missing_on_closed"], done["missing_on_open"], done["different"]) == (1, 2, 2)
        assert log_of(damaged) == {key: [kind, True, True, True] for key, kind in DAMAGE.items()}
        assert json.loads(run(damaged, "verify", "bank", "--json").out)["passed"]
        assert "found no key to repair" in run(damaged, "repair", "bank", expect=4).err
        assert payments.acknowledged


def test_given_keys_only(damaged: Bank) -> None:
    shown = run(damaged, "repair", "bank", "--table", "bank.account", "--key", "0203", "--key", "7").out
    assert "1 of 2 keys" in shown
    assert "equal already 1" in shown
    assert log_of(damaged) == {203: ["different", True, True, True], 7: [None, True, True, True]}
    with damaged.both.service.connect("test") as conn:
        assert conn.execute("SELECT count(*) FROM bank.account WHERE id >= 990").fetchone() == (2,)
    assert "a key has the columns id, not 2" in _usage(damaged, "--table", "bank.account", "--key", "1,2")
    assert "invalid input syntax" in _usage(damaged, "--table", "bank.account", "--key", "x")
    assert "needs --table" in _usage(damaged, "--key", "1")


def _usage(bank: Bank, *arguments: str) -> str:
    return run(bank, "repair", "bank", *arguments, expect=2).err


@pytest.mark.parametrize("point", REPAIR_POINTS)
def test_a_killed_repair_goes_on(damaged: Bank, point: str) -> None:
    """None is written twice, none is left out."""
    keys = [argument for key in DAMAGE for argument in ("--key", str(key))]
    arguments = ("repair", "bank", "--batch-keys", "2")
    with counting_writes(damaged) as conn:
        run_killed_at(damaged, f"repair.{point}", *arguments, "--table", "bank.account", *keys)
        assert "is not finished" in run(damaged, *arguments, "--table", "bank.account", expect=4).err
        done = json.loads(run(damaged, *arguments, "--json").out)
        assert (done["resumed"], done["repaired"], done["differences"]) == (True, 5, [])
        written = conn.execute("SELECT id, array_agg(op ORDER BY n) FROM bank.written GROUP BY id").fetchall()
    assert dict(written) == {
        203: ["DELETE", "INSERT"], 204: ["INSERT"], 205: ["DELETE", "INSERT"], 990: ["DELETE"], 991: ["DELETE"],
    }  # fmt: skip
    assert log_of(damaged) == {key: [kind, True, True, True] for key, kind in DAMAGE.items()}


@contextmanager
def counting_writes(bank: Bank) -> Iterator[Connection]:
    """Rows of the closed side's accounts that were deleted and inserted, by whomever."""
    with rogue(bank, Side.SERVICE) as conn:
        conn.execute(
            "CREATE TABLE bank.written (n int GENERATED ALWAYS AS IDENTITY, id bigint, op text);"
            "CREATE FUNCTION bank.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO bank.written (id, op) VALUES (coalesce(NEW.id, OLD.id), TG_OP); RETURN NULL; END $$;"
            "CREATE TRIGGER note AFTER INSERT OR DELETE ON bank.account FOR EACH ROW EXECUTE FUNCTION bank.note();"
            "ALTER TABLE bank.account ENABLE ALWAYS TRIGGER note"
        )
        try:
            yield conn
        finally:
            conn.execute("DROP FUNCTION bank.note CASCADE; DROP TABLE bank.written")


def test_the_worker_holds_still_at_a_held_barrier(bank: Bank) -> None:
    with WorkerBarriers(bank.context, bank.both, hold_s=60)():
        bank.pay(Side.SHARED, 11, 12)
        held = _balance(bank, Side.SERVICE, 11)
        threading.Event().wait(0.5)  # what would be applied in the meantime would have been
        assert held == _balance(bank, Side.SERVICE, 11) != _balance(bank, Side.SHARED, 11)
    bank.await_equal()


@pytest.mark.parametrize("payer", [203, 13])
def test_a_late_repair_never_overwrites_a_newer_row(damaged: Bank, monkeypatch: pytest.MonkeyPatch, payer: int) -> None:
    """The worker does not wait, and the stream goes on before the repair writes: with the row itself, or another."""
    monkeypatch.setattr(repairing, "HOLD_S", 0.0)
    met = []

    def overtaken(point: str) -> None:
        if point == "repair.begun":
            met.append(point)
            damaged.pay(Side.SHARED, payer, 12)
            wanted = _balance(damaged, Side.SHARED, 12)
            wait_until(lambda: _balance(damaged, Side.SERVICE, 12) == wanted)

    monkeypatch.setattr(repairing, "kill_point", overtaken)
    with driver(damaged) as at_work:
        if payer == 203:  # the stream brings the whole row, so it is equal at the next barrier
            assert repairing.repair(at_work, Wanted(ACCOUNT, ("203",))).differences == ()
        else:
            with pytest.raises(MovedOn, match="went on before the repair was written"):
                repairing.repair(at_work, Wanted(ACCOUNT, ("203",)))
            monkeypatch.undo()
            assert repairing.repair(at_work, Wanted()).resumed
    assert len(met) == (2 if payer == 203 else 5)
    assert _balance(damaged, Side.SERVICE, 203) == _balance(damaged, Side.SHARED, 203)


def _balance(bank: Bank, side: Side, account: int) -> float:
    with bank.both[side].connect("test") as conn:
        row = conn.execute("SELECT balance FROM bank.account WHERE id = %s", (account,)).fetchone()
    assert row is not None
    return float(row[0])


def test_a_side_that_takes_other_writes_is_not_repaired(bank: Bank) -> None:
    with bank.both.service.connect("test") as conn:

        def is_refused() -> bool:  # or the watch has put the lock right before it was seen
            conn.execute("ALTER TABLE bank.entry DISABLE TRIGGER carveout_write_lock")
            tried = run(bank, "repair", "bank", "--table", "bank.account", "--key", "3", expect=None)
            assert tried.code in (0, 4), tried
            return "takes application writes to bank.entry" in tried.err

        try:
            wait_until(is_refused)
        finally:
            conn.execute("ALTER TABLE bank.entry ENABLE TRIGGER carveout_write_lock")


def test_values_that_rows_have_swapped_need_one_transaction(bank: Bank) -> None:
    for side in Side:
        with bank.both[side].connect("test") as conn:
            conn.execute("CREATE UNIQUE INDEX owners ON bank.account (owner)")
    try:
        with rogue(bank, Side.SERVICE) as conn, conn.transaction():
            conn.execute("UPDATE bank.account SET owner = 'nobody' WHERE id = 20")
            conn.execute("UPDATE bank.account SET owner = 'owner 20' WHERE id = 21")
            conn.execute("UPDATE bank.account SET owner = 'owner 21' WHERE id = 20")
        arguments = ("repair", "bank", "--table", "bank.account", "--key", "20", "--key", "21")
        failed = run(bank, *arguments, "--batch-keys", "1", expect=1)
        assert "--batch-keys" in failed.err
        assert "owner 2" not in failed.err
        assert "compared again: equal" in run(bank, "repair", "bank").out
    finally:
        for side in Side:
            with bank.both[side].connect("test") as conn:
                conn.execute("DROP INDEX bank.owners")


def test_after_a_switch_the_shared_side_is_repaired_and_old_findings_are_refused(bank: Bank) -> None:
    with rogue(bank, Side.SERVICE) as conn:
        conn.execute("UPDATE bank.account SET owner = 'wrong' WHERE id = 150")
    run(bank, "verify", "bank", expect=3)
    with rogue(bank, Side.SERVICE) as conn:
        conn.execute("UPDATE bank.account SET owner = 'owner 150' WHERE id = 150")
    run(bank, "verify", "bank")
    switch(bank, Side.SERVICE)
    bank.await_streaming()
    with driver(bank) as at_work, pytest.raises(RefusedError, match="from before the last switch"):
        repairing.repair(at_work, Wanted())
    with rogue(bank, Side.SHARED) as conn:
        damage(conn)
    run(bank, "verify", "bank", expect=3)
    done = json.loads(run(bank, "repair", "bank", "--json").out)
    assert (done["from"], done["to"], done["repaired"], done["differences"]) == ("service", "shared", 5, [])
    bank.await_equal()
