"""Large transactions of a backlog are applied while they are received: with markers, rules and a broken connection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cdc.lsn import parse_lsn
from cdc.source import start as starting
from contexts.databases import Databases
from contexts.model import Side
from tests.migrator import inprocess
from tests.migrator.commands import run
from tests.migrator.moving import Bank
from tests.waiting import wait_until

#: As :mod:`tests.migrator.test_rules` has it: broken by a transaction whose entries have another sum than zero.
RULES = """
[[rules]]
name = "double_entry"
kind = "balance"
table = "bank.entry"
column = "amount"
"""
MARKER = json.dumps({"context": "bank", "id": "mine", "kind": "probe"})
LARGE = (
    "UPDATE bank.account SET balance = balance + 1 WHERE id % 3 = 0",
    # More than the sockets between server and worker hold.
    "INSERT INTO bank.entry (account, amount, memo) SELECT 1 + g % 200, 0.01, repeat('x', 1000)"
    " FROM generate_series(1, 20000) g",
    "UPDATE bank.account SET balance = balance - 1 WHERE id % 3 = 0",
    "DELETE FROM bank.entry WHERE id IN (SELECT max(id) FROM bank.entry)",
    f"SELECT pg_logical_emit_message(true, 'carveout', '{MARKER}')",
)


@pytest.fixture(params=["", RULES], ids=["plain", "with rules"])
def bank(request: pytest.FixtureRequest, tmp_path: Path, pair: Databases, monkeypatch: pytest.MonkeyPatch) -> Bank:
    monkeypatch.setattr(starting, "_FAR_BYTES", -(1 << 62))  # every stream begins with a backlog
    made = Bank.create(tmp_path, pair, options="spool_mb = 0.02\nbatch_rows = 1000")
    if request.param:
        made.declare(request.param)
    run(made, "prepare", "bank", "--skip-check")
    return made


def test_it_is_applied_once_with_its_marker(bank: Bank) -> None:
    with inprocess.worker(bank):
        bank.await_streaming()
        with bank.both.shared.connect("test", autocommit=False) as conn:
            for statement in LARGE:
                conn.execute(statement)
        bank.pay(Side.SHARED, 1, 2)
        with bank.both.shared.connect("test") as conn:
            row = conn.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        bank.await_equal()
        with bank.both.service.connect("test") as conn:
            marker = conn.execute("SELECT kind, end_lsn::text FROM carveout.marker WHERE id = 'mine'").fetchone()
        assert row
        assert marker
        assert marker[0] == "probe"
        assert 0 < parse_lsn(marker[1]) < parse_lsn(row[0])
        assert len(bank.rows(Side.SERVICE)["entry"]) == 200 + 20_000 - 1 + 2
        run(bank, "verify", "bank")


def test_a_connection_that_breaks_in_the_middle(bank: Bank, caplog: pytest.LogCaptureFixture) -> None:
    with inprocess.worker(bank):
        bank.await_streaming()
        with (
            bank.both.service.connect("test", autocommit=False) as lock,
            bank.both.shared.connect("test", autocommit=False) as conn,
        ):
            lock.execute("SELECT FROM bank.account WHERE id = 3 FOR UPDATE")  # the applier waits in the middle
            for statement in LARGE:
                conn.execute(statement)
            conn.commit()
            wait_until(bank.waits_for_a_lock)
            conn.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
        wait_until(lambda: "the stream broke" in caplog.text)
        bank.await_equal()
        wait_until(lambda: run(bank, "verify", "bank", expect=None).code == 0)  # refused until it streams again
