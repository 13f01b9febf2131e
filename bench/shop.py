"""A migration at work whose application is pgbench: the project, the worker process, and the commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import data
from bench.harness import BenchError, Rig
from contexts import scaffold
from contexts.embedded import available_majors
from contexts.loader import load_project
from contexts.model import TableName

NAME = "pgbench"
TABLES = ("pgbench_accounts", "pgbench_tellers", "pgbench_branches")
_PATIENCE_S = 600.0
_MAIN = [sys.executable, "-m", "migrate"]


@dataclass(frozen=True)
class Shop:
    """A streaming project."""

    bench: Rig
    folder: Path

    def command(self, *arguments: str) -> list[str]:
        """A command line of Carveout on this project."""
        return [*_MAIN, *arguments, "--project", str(self.folder)]

    def environment(self) -> dict[str, str]:
        """With the variables of the project."""
        ends = self.bench.ends
        return {**os.environ, "CARVEOUT_SHARED_URL": ends.source, "PGBENCH_DATABASE_URL": ends.target}

    def run(self, *arguments: str) -> None:
        """Run a command to its end.

        :raises BenchError: it failed.
        """
        done = subprocess.run(
            self.command(*arguments), env=self.environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BenchError(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")

    def settle(self) -> None:
        """Wait until the worker has brought everything: no round pays for another."""
        with data.connect(self.bench.ends.source) as conn, data.connect(self.bench.ends.target) as other:
            wanted = conn.execute("SELECT sum(abalance)::text FROM public.pgbench_accounts").fetchone()
            _wait(lambda: other.execute("SELECT sum(abalance)::text FROM public.pgbench_accounts").fetchone() == wanted)


def program() -> str:
    """pgbench.

    :raises BenchError: it is not installed.
    """
    found = [str(folder / "pgbench") for folder in available_majors().values() if (folder / "pgbench").exists()]
    if path := found[0] if found else shutil.which("pgbench"):
        return path
    raise BenchError("pgbench is missing: install PostgreSQL's client programs")


@contextmanager
def streaming(bench: Rig, rows: int) -> Iterator[Shop]:
    """A shop of at least ``rows`` accounts whose worker follows; ended and removed afterwards."""
    for server in (bench.source, bench.target):
        bench.recreate(server)
    scale = str(max(1, rows // 100_000))
    subprocess.run([program(), "-i", "-q", "-s", scale, bench.ends.source], check=True, capture_output=True)
    folder = Path(tempfile.mkdtemp(prefix="carveout-bench-shop-"))
    shop = Shop(bench, folder)
    try:
        _scaffold(shop)
        shop.run("prepare", NAME, "--skip-check")
        worker = subprocess.Popen(
            shop.command("worker", NAME), env=shop.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _await_streaming(shop, worker)
            yield shop
        finally:
            worker.terminate()
            worker.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _scaffold(shop: Shop) -> None:
    os.environ.update(shop.environment())
    scaffold.init(shop.folder)
    with data.connect(shop.bench.ends.source) as conn:
        scaffold.new_context(conn, load_project(shop.folder), NAME, [TableName("public", name) for name in TABLES])
    # Rows only: a suite would bring great-expectations, with its memory, into the process that is measured.
    shutil.rmtree(shop.folder / "contexts" / NAME / "suites", ignore_errors=True)


def _await_streaming(shop: Shop, worker: subprocess.Popen[bytes]) -> None:
    query = "SELECT report ->> 'phase' FROM carveout.worker"
    with data.connect(shop.bench.ends.source) as conn:
        _wait(lambda: conn.execute(query).fetchone() == ("streaming",) or worker.poll() is not None)
    if worker.poll() is not None:
        raise BenchError(f"the worker ended with {worker.returncode}")


def _wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            raise BenchError(f"not within {_PATIENCE_S:g} s")
        time.sleep(0.05)
