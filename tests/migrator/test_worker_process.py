"""The worker's process: several contexts in one, and its signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from contexts.model import Context, Project, Service, SharedDatabase, Table, TableName
from migrator.cli.worker import run_workers


def context(name: str) -> Context:
    return Context(
        name=name, tables=(Table(name=TableName("public", name)),), service=Service(url="postgresql://nowhere/none")
    )


def test_a_context_that_is_over_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    over, seen = threading.Event(), []

    class Worker:
        def __init__(self, context: Context, _both: object, stop: threading.Event, *_: object) -> None:
            self.name, self.stop = context.name, stop

        def run(self) -> None:
            if self.name == "first":
                self.stop.set()  # as a worker does whose migration is completed
                over.set()
            else:
                over.wait(30)
                seen.append(self.stop.is_set())

    monkeypatch.setattr("migrator.worker.worker.ContextWorker", Worker)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    project = Project(shared=SharedDatabase(url="postgresql://nowhere/none"))
    assert run_workers(project, [context("first"), context("second")], None) == 0
    assert seen == [False]


STUBBORN = """
import threading
from migrator import interrupts
from migrator.cli import worker
stop = threading.Event()
worker._stop_on_signals([stop])
def hang():
    print("ready", flush=True)
    stop.wait()
    print("asked", flush=True)
    threading.Event().wait()
thread = threading.Thread(target=hang)
thread.start()
interrupts.join([thread])
"""


def test_a_second_signal_ends_it_at_once() -> None:
    """Even where a thread hangs in a server that does not answer."""
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True,
                               cwd=Path(__file__).parents[2])  # fmt: skip
    try:
        assert said(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert said(process) == "asked"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def said(process: Any) -> str:
    return str(process.stdout.readline()).strip()
