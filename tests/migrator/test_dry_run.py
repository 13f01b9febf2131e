"""``--dry-run`` changes nothing and lists what the real run then does."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from contexts.databases import Databases
from contexts.model import Side
from migrator.control.locks import exclusive
from migrator.executor import Live, Recording, Row, Statement
from migrator.run import Run
from migrator.steps import complete as completing
from migrator.steps import prepare as preparing
from migrator.switch import switching
from tests.migrator.commands import run
from tests.migrator.moving import Bank
from tests.migrator.snapshots import catalog, rows

#: What differs from run to run: ids of markers and switches, and positions in the log.
_PASSING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9A-F]+/[0-9A-F]+")


class Spy(Live):
    """Does it, and writes it down as the dry run does."""

    def __init__(self, databases: Databases) -> None:
        super().__init__(databases, "spy")
        self._notes = Recording(databases, "spy notes")

    def write(
        self, side: Side, statement: Statement, parameters: Sequence[Any] = (), *, pretend: Row | None = None
    ) -> list[Row]:
        self._notes.write(side, statement, parameters)
        return super().write(side, statement, parameters)

    def act(self, side: Side | None, text: str, action: Callable[[], object]) -> None:
        self._notes.act(side, text, action)
        super().act(side, text, action)

    def lines(self) -> list[str]:
        return [_PASSING.sub("?", f"{entry.side or 'here':8} {entry.text}") for entry in self._notes.recorded]

    def close(self) -> None:
        super().close()
        self._notes.close()


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    return Bank.create(tmp_path, pair, options="batch_age_ms = 20")


def test_every_command_that_changes_something(bank: Bank) -> None:
    _compare(bank, "prepare", preparing.prepare, "--skip-check")
    with bank.worker():
        bank.await_streaming()
        run(bank, "verify", "bank")
        _compare(bank, "cutover", lambda run_: switching.switch(run_, Side.SERVICE))
        bank.await_streaming()
        run(bank, "verify", "bank")
        _compare(bank, "rollback", lambda run_: switching.switch(run_, Side.SHARED))
        bank.await_streaming()
        _compare(bank, "abort", preparing.abort)
    run(bank, "prepare", "bank", "--skip-check")
    with bank.worker():
        bank.await_streaming()
        run(bank, "verify", "bank")
        run(bank, "cutover", "bank")
        bank.await_streaming()
        _compare(bank, "complete", lambda run_: completing.complete(run_, drop_tables=True), "--drop-tables")


def _compare(bank: Bank, verb: str, live: Callable[[Run], object], *options: str) -> None:
    """The dry run by the command line, then the same for real."""
    before = [(catalog(bank.both[side]), rows(bank.both[side])) for side in Side]
    said = run(bank, verb, "bank", "--dry-run", *options).out.splitlines()
    after = [(catalog(bank.both[side]), rows(bank.both[side])) for side in Side]
    assert after == before
    assert said[-1] == "dry run: nothing was changed"
    done = _do(bank, live)
    assert len(done) > 3
    listed = [_PASSING.sub("?", line) for line in said]
    assert [line for line in done if line not in listed] == [], f"{verb}: done, but not in the dry run"


def _do(bank: Bank, live: Callable[[Run], object]) -> list[str]:
    context = bank.context
    spy = Spy(bank.both)
    with exclusive(bank.both.shared, bank.name, "driver"):
        live(Run(context, bank.both, spy))
    spy.close()
    return spy.lines()
