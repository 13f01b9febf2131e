"""A column's type changes behind rows of its own transaction: the worker stops, is told, and the proof begins anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from contexts.databases import Databases
from contexts.errors import ExitCode
from contexts.model import Side
from tests.migrator.commands import run
from tests.migrator.moving import Bank

CHANGE = "ALTER TABLE bank.entry ALTER memo TYPE varchar(80) USING upper(memo)"


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    made = Bank.create(tmp_path, pair)
    run(made, "prepare", "bank", "--skip-check")
    with made.worker():
        made.await_streaming()
        run(made, "verify", "bank")
    return made


def test_stopped_told_proven_again(bank: Bank) -> None:
    with bank.both.shared.connect("test", autocommit=False) as conn:
        conn.execute("INSERT INTO bank.entry (account, amount, memo) VALUES (1, 1, 'before')")
        conn.execute(CHANGE)
        conn.execute("INSERT INTO bank.entry (account, amount, memo) VALUES (1, 1, 'after')")
    bank.worker().wait()
    with bank.both.service.connect("test") as conn:
        conn.execute(CHANGE)
    assert bank.worker().wait() == ExitCode.NEEDS_HUMAN
    assert "next: carveout worker bank --convert bank.entry" in bank.worker_log()
    with bank.worker("--convert", "bank.entry"):
        bank.await_streaming()
        said = run(bank, "cutover", "bank", expect=4).err
        assert "the tables have another shape than at the last verification" in said
        assert "1 differ" in run(bank, "verify", "bank", expect=3).out  # what USING made of the row
        run(bank, "repair", "bank")
        run(bank, "verify", "bank")
        run(bank, "cutover", "bank")
        assert bank.rows(Side.SHARED) == bank.rows(Side.SERVICE)
