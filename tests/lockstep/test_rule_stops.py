"""A rule whose policy is to stop, broken in lockstep."""

from __future__ import annotations

from pathlib import Path

from contexts.databases import Databases
from contexts.model import Side
from migrator import rules
from migrator.lockstep import phase
from tests.lockstep.test_watched import make
from tests.migrator.driving import driver
from tests.migrator.inprocess import verify


def test_a_rule_that_stops_leads_out_of_lockstep(tmp_path: Path, pair: Databases) -> None:
    """Nothing after the transaction comes to the service side before an operator has accepted it."""
    bank = make(tmp_path, pair)
    gated = bank.connections()
    with bank.worker() as at_work:
        bank.await_streaming()
        with driver(bank) as run:
            phase.enter(run)
        with gated.transaction() as conn:
            conn.execute("DELETE FROM bank.entry WHERE id = 1")
        assert at_work.wait() == 5, bank.worker_log()
    assert bank.state() == "streaming"
    with gated.transaction() as conn:
        conn.execute("UPDATE bank.account SET balance = balance + 1 WHERE id = 2")
    assert bank.rows(Side.SHARED) != bank.rows(Side.SERVICE)
    (found,) = rules.read(bank.both, bank.name)
    bank.cli("rules", "accept", "bank", found.id)
    with bank.worker():
        bank.await_equal()
        assert bank.differences() == []
        assert verify(bank).passed
    gated.close()
