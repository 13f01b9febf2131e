"""Cutover, rollback and cutover under clients of every kind: none loses a payment, the gated ones see no error."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from contexts.databases import Databases
from contexts.model import Side
from migrator.shims.engine import gated_engine
from tests.migrator.clients import Clients, straight, through
from tests.migrator.commands import run
from tests.migrator.moving import Bank
from tests.migrator.payments import the_open_side

OPTIONS = "max_lag_s = 60\nbatch_age_ms = 20\nswitch_deadline_ms = 8000\nwrite_block_budget_ms = 8000\n"
GATED = [f"gated {number}" for number in range(8)]


class _Engine:
    """An engine that is disposed of at the end."""

    def __init__(self, both: Databases) -> None:
        self.engine = gated_engine(
            "bank", {side: both[side].url for side in Side}, wait_limit_s=30.0, pool_size=len(GATED)
        )

    def close(self) -> None:
        self.engine.dispose()


def test_gated_clients_see_no_error_and_others_only_the_clear_one(tmp_path: Path, pair: Databases) -> None:
    bank = Bank.create(tmp_path, pair, options=OPTIONS)
    run(bank, "prepare", "bank", "--skip-check")
    with closing(_Engine(pair)) as made, bank.worker():
        payers = {name: through(made.engine) for name in GATED} | {"straight": straight(bank)}
        with Clients(payers) as clients:
            for verb, side in (("cutover", Side.SERVICE), ("rollback", Side.SHARED), ("cutover", Side.SERVICE)):
                bank.await_streaming()
                run(bank, "verify", "bank")
                run(bank, verb, "bank")
                assert the_open_side(bank) is side
                clients.assert_paying()
        bank.await_equal()
    assert {name for name, _ in clients.errors} == {"straight"}
    for _, said in clients.errors:
        assert "is closed for writes in this database" in said
        assert "HINT:  write to the " in said
    for side in Side:
        clients.assert_kept(bank, side)
