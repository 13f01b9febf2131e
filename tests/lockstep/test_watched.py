"""Rules and versions in lockstep: they see every change that the audit sees, with the row as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from contexts.databases import Database, Databases
from contexts.errors import RefusedError
from contexts.example import seed
from contexts.example.ledger import Ledger
from contexts.example.load import Load
from contexts.model import Side
from migrator import rules
from migrator.demo.traffic import ServiceGate
from migrator.lockstep import conditions, phase
from migrator.shims import lockstep as shim
from migrator.shims.direct import GatedConnections
from tests.lockstep.conftest import OPTIONS, Lockstepped
from tests.migrator.driving import driver
from tests.migrator.inprocess import prepare, verify, worker
from tests.migrator.test_example_contexts import projects
from tests.waiting import wait_until

RULES = """
[[rules]]
name = "owner_stays"
kind = "immutable"
table = "bank.account"
columns = ["owner"]

[[rules]]
name = "entries_stay"
kind = "append_only"
table = "bank.entry"
policy = "stop"
"""
#: Statements of one transaction, and the versions of accounts that they make: operation, old and new balance.
CHANGES = {
    "update": (["UPDATE bank.account SET balance = 7 WHERE id = 1"], [("update", "100.00", "7.00")]),
    "two updates": (
        ["UPDATE bank.account SET balance = 1 WHERE id = 2", "UPDATE bank.account SET balance = 2 WHERE id = 2"],
        [("update", "100.00", "1.00"), ("update", "1.00", "2.00")],
    ),
    "insert, update and delete": (
        [
            "INSERT INTO bank.account VALUES (900, 'new', 3)",
            "UPDATE bank.account SET balance = 4 WHERE id = 900",
            "DELETE FROM bank.account WHERE id = 900",
        ],
        [("insert", None, "3.00"), ("update", "3.00", "4.00"), ("delete", "4.00", None)],
    ),
    "delete and insert": (
        ["DELETE FROM bank.account WHERE id = 901", "INSERT INTO bank.account VALUES (901, 'again', 5)"],
        [("delete", "6.00", None), ("insert", None, "5.00")],
    ),
    "key change": (["UPDATE bank.account SET id = 920 WHERE id = 902"], [("update", "6.00", "6.00")]),
    "rolled back to a savepoint": (
        [
            "SAVEPOINT s", "UPDATE bank.account SET balance = 0 WHERE id = 4", "ROLLBACK TO s",
            "UPDATE bank.account SET balance = 8 WHERE id = 5",
        ],
        [("update", "100.00", "8.00")],
    ),
}  # fmt: skip


def make(folder: Path, pair: Databases) -> Lockstepped:
    made = Lockstepped.create(folder, pair, options=OPTIONS)
    assert isinstance(made, Lockstepped)
    path = folder / "contexts" / "bank" / "context.toml"
    path.write_text(path.read_text().replace('name = "bank.account"', 'name = "bank.account"\nversions = true'))
    made.declare(RULES)
    made.expand_variables()
    with pair.shared.connect("test") as conn:
        conn.execute("INSERT INTO bank.account SELECT g, 'more', 6 FROM generate_series(901, 905) g")
    prepare(made)
    return made


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> Iterator[Lockstepped]:
    made = make(tmp_path_factory.mktemp("bank"), module_pair)
    with worker(made):
        made.await_streaming()
        yield made


def versions(bank: Lockstepped, after: int) -> list[tuple[object, ...]]:
    with bank.both.service.connect("test") as conn:
        return conn.execute(
            "SELECT operation, old ->> 'balance', new ->> 'balance' FROM bank.account_versions"
            " WHERE operation <> 'baseline' ORDER BY commit_lsn, ordinal OFFSET %s", (after,)
        ).fetchall()  # fmt: skip


def count(bank: Lockstepped) -> int:
    return len(versions(bank, 0))


@pytest.mark.parametrize(("statements", "expected"), CHANGES.values(), ids=CHANGES)
def test_each_change_is_a_version_once_with_the_row_as_it_was(
    bank: Lockstepped, gated: GatedConnections, statements: list[str], expected: list[tuple[object, ...]]
) -> None:
    bank.await_equal()
    with bank.in_lockstep():
        before, audited = count(bank), bank.audited()
        with gated.transaction() as conn:
            for statement in statements:
                conn.execute(statement.encode())
        bank.await_audited(audited + 1)
        assert versions(bank, before) == expected
        assert verify(bank).passed
        assert bank.differences() == []


def test_the_row_of_a_transaction_that_is_still_prepared_is_the_one_before(
    bank: Lockstepped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second transaction updates a row that the first has inserted and not yet committed on the service side."""
    bank.await_equal()
    one, two = bank.connections(), bank.connections()
    after: list[Future[None]] = []

    def update() -> None:
        with two.transaction() as conn:
            conn.execute("UPDATE bank.account SET balance = 22 WHERE id = 910")

    with ThreadPoolExecutor(1) as threads, bank.in_lockstep():
        before, audited = count(bank), bank.audited()

        def reached(point: str) -> None:
            if point == "shim.decided" and not after:
                after.append(threads.submit(update))
                wait_until(lambda: is_applying(bank) or after[0].done())

        with monkeypatch.context() as patch:
            patch.setattr(shim, "kill_point", reached)
            with one.transaction() as conn:
                conn.execute("INSERT INTO bank.account VALUES (910, 'in doubt', 11)")
            after[0].result()
        bank.await_audited(audited + 2)
        assert versions(bank, before) == [("insert", None, "11.00"), ("update", "11.00", "22.00")]
        assert verify(bank).passed
    for gated in (one, two):
        gated.close()


def is_applying(bank: Lockstepped) -> bool:
    return bool(bank.count(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
        " AND query LIKE '%lockstep_apply%' AND pid <> pg_backend_pid()"
    ))  # fmt: skip


def test_a_rule_is_judged(bank: Lockstepped, gated: GatedConnections) -> None:
    bank.await_equal()
    with bank.in_lockstep():
        audited = bank.audited()
        with gated.transaction() as conn:
            conn.execute("UPDATE bank.account SET balance = 1 WHERE id = 20")
        with gated.transaction() as conn:
            conn.execute("UPDATE bank.account SET owner = 'another' WHERE id = 21")
        bank.await_audited(audited + 2)
        (found,) = rules.read(bank.both, bank.name)
        assert (found.violation.rule, [dict(key) for key in found.violation.keys]) == ("owner_stays", [{"id": "21"}])


def test_lockstep_waits_for_the_versions_to_begin(bank: Lockstepped) -> None:
    path = bank.folder / "contexts" / "bank" / "context.toml"
    declared = path.read_text()
    path.write_text(declared.replace('name = "bank.entry"', 'name = "bank.entry"\nversions = true'))
    try:
        with driver(bank) as run, pytest.raises(RefusedError, match=r"the versions of bank\.entry have not begun"):
            conditions.require(run)
    finally:
        path.write_text(declared)


class Stage:
    """The wallet's databases for each of its services."""

    def __init__(self, both: Databases) -> None:
        self._both = both

    def url(self, side: Side, role: str) -> str:
        return psycopg.conninfo.make_conninfo(self._both[side].url, user=role)


def test_the_wallet_in_lockstep_under_its_own_load(
    tmp_path: Path, new_database: Callable[[int, Side], Database]
) -> None:
    shared = new_database(16, Side.SHARED)
    with shared.connect("test") as conn:
        seed.create(conn)
        seed.seed(conn, accounts=60, payments=500)
    found = projects(tmp_path, shared, lambda: new_database(18, Side.SERVICE))[0]
    wallet = Lockstepped(found.folder, found.both, found.name, found.environment)
    path = wallet.folder / "contexts" / "wallet" / "context.toml"
    path.write_text(path.read_text().replace("[options]", f"[options]\n{OPTIONS}"))
    with wallet.both.service.connect("test") as conn:
        for role in ("wallet_service", "ledger_reader"):
            conn.execute(f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN END $$".encode())
    prepare(wallet)
    stage = Stage(wallet.both)
    with worker(wallet), Load(lambda role: ServiceGate(stage, role), Ledger(tmp_path / "ledger"), rate=200) as load:  # type: ignore[arg-type]
        wallet.await_streaming()
        for _ in range(2):
            with driver(wallet) as run:
                phase.enter(run)
            load.wait_for(150)
            assert verify(wallet).passed
            with driver(wallet) as run:
                phase.leave(run, "a flip")
            load.wait_for(100)
            assert verify(wallet).passed
    assert rules.read(wallet.both, "wallet") == []
    assert wallet.audited() > 100
    assert wallet.differences() == []
