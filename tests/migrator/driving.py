"""The driver in this process, so that a test can do something at a named point of a switch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from contexts.model import Side
from migrator.cli.common import run_of
from migrator.control.locks import exclusive
from migrator.run import Run
from migrator.switch import procedure, settle, switching
from migrator.switch.moves import SwitchReport
from migrator.traffic import bouncers
from tests.migrator.moving import Bank


@contextmanager
def driver(bank: Bank) -> Iterator[Run]:
    """A run that holds the driver's lock."""
    context = bank.context
    with exclusive(bank.both.shared, bank.name, "driver"), run_of(context, bank.both, "test driver") as run:
        yield run


def switch(bank: Bank, to_side: Side) -> SwitchReport:
    """Cutover or rollback."""
    with driver(bank) as run:
        return switching.switch(run, to_side)


def at_point(monkeypatch: pytest.MonkeyPatch, point: str, action: Callable[[], object]) -> None:
    """Run ``action`` once, in the driver, when it comes to a kill point of the switch."""
    done: list[str] = []

    def reached(name: str) -> None:
        if name == point and not done:
            done.append(name)
            action()

    for module in (procedure, settle, bouncers):
        monkeypatch.setattr(module, "kill_point", reached)
