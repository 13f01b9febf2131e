"""The command line without a new interpreter for every command: each is forked from one that has it imported.

A process of its own all the same, so it can be killed anywhere and takes its own environment.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import migrator.cli.doctor
import migrator.cli.lifecycle
import migrator.cli.status
import migrator.cli.switching
import migrator.cli.verify  # noqa: F401 (imported once, in the process that all commands are forked from)
from tests.migrator.moving import Bank
from tests.waiting import PATIENCE_S

KILLED = -signal.SIGKILL
_forks = multiprocessing.get_context("forkserver")
# What commands import only where they need it, too: compiling it takes seconds on a busy machine.
_forks.set_forkserver_preload(
    [__name__, "alembic.command", "alembic.op", "alembic.runtime.environment", "sqlalchemy.dialects.postgresql.psycopg"]
)


@dataclass(frozen=True)
class Ended:
    """A command that has ended; ``code`` is the negative signal where one ended it."""

    code: int
    out: str
    err: str


class Running:
    """A command at work."""

    def __init__(self, bank: Bank, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        self._output = Path(tempfile.mkdtemp(dir=bank.folder))
        self._what = " ".join(arguments)
        line = [arguments[0], *arguments[1:], "--project", str(bank.folder)]
        self.process: ForkServerProcess = _forks.Process(
            target=_main, args=(line, {**bank.environment, **environment}, self._output)
        )
        self.process.start()
        atexit.register(self.process.kill)  # before multiprocessing waits for it

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self, expect: int | None = 0) -> Ended:
        """Wait for its end; fails unless it ends with ``expect`` (None: anything)."""
        self.process.join(PATIENCE_S)
        code = self.process.exitcode
        self.process.kill()  # one that hangs would keep this process from its end, too
        atexit.unregister(self.process.kill)  # which would keep its pipes open
        assert code is not None, f"{self._what} does not end"
        ended = Ended(code, (self._output / "out").read_text(), (self._output / "err").read_text())
        assert expect in (None, code), f"{self._what}: exit {code}\n{ended.out}\n{ended.err}"
        return ended


def start(bank: Bank, *arguments: str, **environment: str) -> Running:
    """Start ``carveout ARGUMENTS`` on the bank's project."""
    return Running(bank, arguments, environment)


def run(bank: Bank, *arguments: str, expect: int | None = 0, **environment: str) -> Ended:
    """Run a command to its end."""
    return start(bank, *arguments, **environment).end(expect)


def run_killed_at(bank: Bank, point: str, *arguments: str) -> None:
    """Run a command that dies at a kill point; fails where it ends otherwise."""
    run(bank, *arguments, expect=KILLED, CARVEOUT_KILL_AT=point)


def _main(line: list[str], environment: dict[str, str], output: Path) -> None:
    from contexts import killpoints
    from migrator.cli import main

    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT), number)
    os.environ.pop("CARVEOUT_KILL_AT", None)
    os.environ.update(environment)
    killpoints.read_environment()
    sys.argv = ["carveout", *line]
    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
