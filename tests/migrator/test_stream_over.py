"""A stream that stops is an error, unless a switch has ended it meanwhile: its slot and its topic are gone then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from contexts.databases import Databases
from contexts.errors import StreamStopped
from migrator.worker import worker
from tests.migrator.commands import run
from tests.migrator.moving import Bank


@pytest.mark.parametrize("is_over", [True, False])
def test_the_worker_goes_on_with_the_stream_of_now(
    tmp_path: Path, pair: Databases, monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    bank, stop = Bank.create(tmp_path, pair), threading.Event()
    turns: list[int] = []
    bank.expand_variables()
    run(bank, "prepare", "bank", "--skip-check")
    with pair.shared.connect("test") as conn:
        conn.execute("UPDATE carveout.migration SET state = 'streaming'")

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
