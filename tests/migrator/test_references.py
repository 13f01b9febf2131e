"""Declared references: orphans across two databases, found by key, and no false alarm while both ends are written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contexts.databases import Databases
from contexts.model import Side
from migrator.cli.common import run_of
from migrator.proof import why_not_proven
from migrator.verify import Verification
from tests.migrator import inprocess
from tests.migrator.moving import Bank
from tests.waiting import wait_until
from validations.invariants.model import State

#: One reference out of the context, one into it.
REFERENCES = """
[[references]]
table = "bank.account"
columns = ["owner"]
references = "bank.customer"
referenced_columns = ["name"]

[[references]]
table = "bank.card"
columns = ["account"]
references = "bank.account"
referenced_columns = ["id"]
"""
OUT, INTO = "reference bank.account (owner)", "reference bank.card (account)"
STAY = """
CREATE TABLE bank.customer (name text PRIMARY KEY);
CREATE TABLE bank.card (number text PRIMARY KEY, account bigint);
INSERT INTO bank.customer SELECT DISTINCT owner FROM bank.account;
INSERT INTO bank.card SELECT id::text, id FROM bank.account WHERE id % 3 = 0;
INSERT INTO bank.card VALUES ('lost', NULL);
"""


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Iterator[Bank]:
    made = Bank.create(tmp_path, pair, accounts=40)
    made.declare(REFERENCES)
    made.expand_variables()
    with pair.shared.connect("test") as conn:
        conn.execute(STAY)
    inprocess.prepare(made)
    with inprocess.worker(made):
        made.await_streaming()
        yield made


def on(bank: Bank, side: Side, statement: str) -> None:
    with bank.both[side].connect("test", session_replication_role="replica") as conn:
        conn.execute(statement)


def orphans(found: Verification) -> dict[str, dict[str, list[str | None]]]:
    """By reference and side: the keys."""
    assert found.invariants is not None
    return {
        result.invariant.name: {
            str(outcome.side): [violation.key[0][1] for violation in outcome.violations]
            for outcome in result.outcomes
            if outcome.rows or outcome.error
        }
        for result in found.invariants.results
        if result.state is not State.HOLDS
    }


def test_orphans_are_found_on_the_side_that_has_them(bank: Bank) -> None:
    assert orphans(inprocess.verify(bank)) == {}
    on(bank, Side.SERVICE, "UPDATE bank.account SET owner = 'nobody' WHERE id = 7")
    on(bank, Side.SHARED, "INSERT INTO bank.card VALUES ('stolen', 99)")
    assert orphans(inprocess.verify(bank)) == {
        OUT: {"service": ["nobody"]},
        INTO: {"shared": ["99"], "service": ["99"]},
    }
    on(bank, Side.SERVICE, "UPDATE bank.account SET owner = 'owner 7' WHERE id = 7")
    on(bank, Side.SERVICE, "DELETE FROM bank.account WHERE id = 3")
    assert orphans(inprocess.verify(bank))[INTO] == {"shared": ["99"], "service": ["3", "99"]}


def test_what_another_context_has_moved_is_read_where_it_lives(bank: Bank) -> None:
    folder = bank.folder / "contexts" / "shop"
    folder.mkdir()
    (folder / "context.toml").write_text(
        'name = "shop"\n[service]\nurl = "${BANK_URL}"\n[[tables]]\nname = "bank.customer"\n'
    )
    on(bank, Side.SERVICE, "CREATE TABLE bank.customer (name text PRIMARY KEY)")
    on(bank, Side.SERVICE, "INSERT INTO bank.customer SELECT owner FROM bank.account WHERE id <> 5")
    assert inprocess.verify(bank).passed  # not moved yet: the shared database has them all
    on(bank, Side.SHARED, "INSERT INTO carveout.migration (context, state, open_side, epoch)"
                          " VALUES ('shop', 'switched', 'service', 2)")  # fmt: skip
    assert orphans(inprocess.verify(bank)) == {OUT: {"shared": ["owner 5"]}}


def test_a_reference_that_the_last_verification_did_not_count_forbids_a_switch(bank: Bank) -> None:
    assert inprocess.verify(bank).passed
    with run_of(bank.context, bank.both, "test") as run:
        assert why_not_proven(run, Side.SHARED) is None
    bank.declare(REFERENCES.partition("\n\n")[0].replace("owner", "balance").replace('"name"', '"balance"'))
    with run_of(bank.context, bank.both, "test") as run:
        reason = why_not_proven(run, Side.SHARED)
    assert reason == "the last verification did not run invariant reference bank.account (balance) as it is now"
    found = inprocess.verify(bank)  # customers have no balance: no answer, and not a green one
    assert (found.passed, found.exit_code) == (False, 1)


@pytest.mark.parametrize("open_side", Side)
def test_writers_of_both_ends_give_no_false_alarm(bank: Bank, open_side: Side) -> None:
    if open_side is Side.SERVICE:
        assert inprocess.verify(bank).passed
        bank.cli("cutover", "bank")
        bank.await_streaming()
    stop, count = threading.Event(), 0

    def work() -> None:
        """The order of a real application: first what is referred to, and the other way round when it goes."""
        nonlocal count
        with bank.both.shared.connect("test") as shared, bank.both[open_side].connect("test") as moved:
            while not stop.is_set():
                number = 1000 + count
                shared.execute("INSERT INTO bank.customer VALUES (%s)", (f"c{number}",))
                moved.execute("INSERT INTO bank.account VALUES (%s, %s, 0)", (number, f"c{number}"))
                shared.execute("INSERT INTO bank.card VALUES (%s, %s)", (f"n{number}", number))
                if count % 2:
                    shared.execute("DELETE FROM bank.card WHERE account = %s", (number,))
                    moved.execute("DELETE FROM bank.account WHERE id = %s", (number,))
                    shared.execute("DELETE FROM bank.customer WHERE name = %s", (f"c{number}",))
                count += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(5):
            before = count
            found = inprocess.verify(bank)
            assert (orphans(found), found.passed) == ({}, True)
            wait_until(lambda least=before: count > least)  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
