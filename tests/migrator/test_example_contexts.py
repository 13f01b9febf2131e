"""The wallet and the history of the examples move at the same time, under their own services: nothing is ever red."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from contexts.databases import Database, Databases
from contexts.example import gate, seed
from contexts.example.ledger import Ledger, Outcome
from contexts.example.load import Load
from contexts.model import Side
from migrator import rules
from tests.migrator import inprocess
from tests.migrator.moving import Bank
from tests.test_repo import ROOT
from validations.invariants.model import State
from validations.rules import store

MOVE = ("wallet", "history")
#: Of the tables whose rows change, here also with versions.
VERSIONED = ("wallet.accounts", "history.points")


def projects(folder: Path, shared: Database, service: Callable[[], Database]) -> list[Bank]:
    """A project with the example contexts, each with a database of its own."""
    shutil.copy(ROOT / "carveout.toml", folder)
    shutil.copytree(ROOT / "contexts" / "card", folder / "contexts" / "card")
    banks = []
    environment = {"CARVEOUT_SHARED_URL": shared.url, "CARD_DATABASE_URL": shared.url}
    for name in MOVE:
        shutil.copytree(ROOT / "contexts" / name, folder / "contexts" / name)
        shutil.rmtree(folder / "contexts" / name / "suites", ignore_errors=True)
        path = folder / "contexts" / name / "context.toml"
        declared = path.read_text()
        for table in VERSIONED:
            declared = declared.replace(f'name = "{table}"', f'name = "{table}"\nversions = true')
        path.write_text(declared)
        bank = Bank(folder, Databases(shared, service()), name)
        environment[f"{name.upper()}_DATABASE_URL"] = bank.both.service.url
        banks.append(bank)
    for bank in banks:
        bank.environment = environment
        bank.expand_variables()
    return banks


def test_the_live_load_breaks_no_rule_invariant_reference_or_version(
    tmp_path: Path, new_database: Callable[[int, Side], Database]
) -> None:
    shared = new_database(16, Side.SHARED)
    with shared.connect("test") as conn:
        seed.create(conn)
        seed.seed(conn, accounts=60, payments=500)
    wallet, history = banks = projects(tmp_path, shared, lambda: new_database(18, Side.SERVICE))
    for bank in banks:
        inprocess.prepare(bank)
    with (
        inprocess.worker(wallet),
        inprocess.worker(history),
        Load(gate.always(shared.url), Ledger(tmp_path / "ledger"), rate=200) as load,
    ):
        for bank in banks:
            bank.await_streaming()
        for _ in range(2):
            before = load.stats.total(Outcome.ACKNOWLEDGED)
            for bank in banks:
                found = inprocess.verify(bank)
                assert found.invariants is not None
                wrong = [one for one in found.invariants.results if one.state is not State.HOLDS]
                assert (wrong, found.passed) == ([], True)
                names = {one.invariant.name for one in found.invariants.results}
            assert {"reference history.points (payment_id)", "versions history.points"} <= names
            load.wait_for(before + 100)
    for bank in banks:
        assert rules.read(bank.both, bank.name) == []
        with bank.both.service.connect("test") as conn:
            table = "wallet.accounts" if bank is wallet else "history.points"
            changed = conn.execute(f"SELECT count(*) FROM {table}_versions WHERE operation <> 'baseline'").fetchall()
            assert changed[0][0] > 20
            assert store.count(conn, bank.name) == 0
