"""A worker's turns: what ends one, and what comes between two.

A stream that stops is an error, unless a switch has ended it meanwhile: its slot and its topic are gone then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cdc.worker.signals import Signals
from contexts.databases import Databases
from contexts.errors import StreamStopped
from migrator.control.migrations import Migration
from migrator.worker import worker
from migrator.worker.control import ControlTask
from tests.migrator.commands import run
from tests.migrator.moving import Bank


def streaming(folder: Path, pair: Databases) -> Bank:
    bank = Bank.create(folder, pair)
    bank.expand_variables()
    run(bank, "prepare", "bank", "--skip-check")
    with pair.shared.connect("test") as conn:
        conn.execute("UPDATE carveout.migration SET state = 'streaming'")
    return bank


def test_a_stop_that_comes_while_the_work_is_assigned_stops_it(
    tmp_path: Path, pair: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever hands it on has ended by then."""
    bank, stop = streaming(tmp_path, pair), threading.Event()
    assign, stopped = ControlTask.assign, []

    def late(task: ControlTask, migration: Migration) -> Signals:
        stop.set()
        task.join()
        return assign(task, migration)

    monkeypatch.setattr(ControlTask, "assign", late)
    monkeypatch.setattr(worker, "follow", lambda opened, _run: stopped.append(opened.__self__.signals.stop.is_set()))
    worker.ContextWorker(bank.context, bank.both, stop, tmp_path / "spool").run()
    assert stopped == [True]


@pytest.mark.parametrize("is_over", [True, False])
def test_the_worker_goes_on_with_the_stream_of_now(
    tmp_path: Path, pair: Databases, monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    bank, stop = streaming(tmp_path, pair), threading.Event()
    turns: list[int] = []

    def follow(_opened: Callable[[], object], _run: object) -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            if is_over:
                with pair.shared.connect("test") as conn:
                    conn.execute("UPDATE carveout.migration SET epoch = epoch + 1")
            raise StreamStopped("the topic is not there")
        stop.set()

    monkeypatch.setattr(worker, "follow", follow)
    working = worker.ContextWorker(bank.context, bank.both, stop, tmp_path / "spool")
    if is_over:
        working.run()
    else:
        with pytest.raises(StreamStopped):
            working.run()
    assert len(turns) == 1 + is_over
