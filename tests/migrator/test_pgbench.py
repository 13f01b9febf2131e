"""The main job with PostgreSQL's own load generator as the application: it knows nothing of Carveout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg import sql

from contexts.databases import Databases
from contexts.embedded import available_majors
from contexts.model import Side
from tests.conftest import need
from tests.migrator.moving import REVISION, ROOT, Bank
from tests.waiting import PATIENCE_S, wait_until

TABLES = ("pgbench_accounts", "pgbench_tellers", "pgbench_branches", "pgbench_history")
#: pgbench adds each random amount to an account, a teller and a branch, and to the history.
SUMS = (
    "SELECT (SELECT sum(abalance) FROM public.pgbench_accounts), (SELECT sum(tbalance) FROM public.pgbench_tellers),"
    " (SELECT sum(bbalance) FROM public.pgbench_branches),"
    " (SELECT coalesce(sum(delta), 0) FROM public.pgbench_history)"
)
INVARIANTS = {
    "one_sum": "-- proves: every amount was added four times\n-- sides: shared, service\n"
    f"SELECT * FROM ({SUMS}) AS s (a, t, b, h) WHERE NOT (a = t AND t = b AND b = h)\n",
    "same_sum": "-- proves: no amount is lost or doubled on the way\n-- kind: number\n"
    "SELECT coalesce(sum(delta), 0) FROM public.pgbench_history\n",
}


@pytest.fixture
def bench(tmp_path: Path, pair: Databases) -> Bank:
    """The project of a shop that runs pgbench, with the tables of ``pgbench -i``."""
    need("pgbench", program() is not None, "install PostgreSQL's client programs")
    made = Bank(tmp_path, pair, "pgbench")
    made.environment = {"CARVEOUT_SHARED_URL": pair.shared.url, "PGBENCH_DATABASE_URL": pair.service.url}
    pgbench(made, Side.SHARED, "-i", "-s", "1", "-q")
    return made


def program() -> str | None:
    found = [str(folder / "pgbench") for folder in available_majors().values() if (folder / "pgbench").exists()]
    return found[0] if found else shutil.which("pgbench")


def pgbench(bench: Bank, side: Side, *arguments: str) -> None:
    subprocess.run([str(program()), *arguments, bench.both[side].url], check=True, capture_output=True, timeout=60)


@contextmanager
def load(bench: Bank, side: Side) -> Iterator[subprocess.Popen[str]]:
    """Eight clients that pay without end, at a rate that a busy machine can follow."""
    process = subprocess.Popen(
        [str(program()), "-n", "-c", "8", "-j", "2", "-T", "600", "-R", "200", bench.both[side].url],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        await_payments(bench, side, process)
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def await_payments(bench: Bank, side: Side, process: subprocess.Popen[str]) -> None:
    """Wait until the load has paid something more."""
    before = payments(bench, side)
    wait_until(lambda: payments(bench, side) > before, lambda: f"pgbench ended with {process.poll()}")


def payments(bench: Bank, side: Side) -> int:
    with bench.both[side].connect("test") as conn:
        row = conn.execute("SELECT count(*) FROM public.pgbench_history").fetchone()
    assert row is not None
    return int(row[0])


def in_folder(bench: Bank, *arguments: str) -> str:
    """Run a command as a user does, in the project's folder."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "migrate.py"), *arguments], cwd=bench.folder, capture_output=True, text=True,
        env={**os.environ, **bench.environment}, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def make_context(bench: Bank) -> None:
    """What a user does before the migration: the history has no key, and the check says what to do."""
    in_folder(bench, "init")
    in_folder(bench, "context", "new", "pgbench", "--tables", ",".join(TABLES))
    folder = bench.folder / "contexts" / "pgbench" / "invariants"
    for name, text in INVARIANTS.items():
        (folder / f"{name}.sql").write_text(text)
    refused = json.loads(bench.cli("check", "pgbench", "--json", expect=4).stdout)
    (blocker,) = [found for found in refused["findings"] if found["severity"] == "blocker"]
    assert blocker["object"] == "public.pgbench_history"
    (statement,) = [line for line in blocker["fix"].splitlines() if "REPLICA IDENTITY FULL" in line]
    assert "in a revision" in blocker["fix"]
    with bench.both.shared.connect("test") as conn:
        conn.execute(sql.SQL(statement))
    (bench.folder / "contexts" / "pgbench" / "schema" / "versions" / "0003_identity.py").write_text(
        REVISION.format(revision="0003", down='"0002"', statements=statement.partition(" -- ")[0])
    )
    bench.cli("check", "pgbench")


def verify(bench: Bank) -> None:
    """Both sides are equal at a barrier of the running load, and so are the sums."""
    proof = json.loads(bench.cli("verify", "pgbench", "--json", expect=None).stdout)
    assert (proof["schema_differences"], proof["differences"], proof["passed"]) == ([], 0, True)
    assert proof["rows"] > 100_000
    assert {result["name"]: result["state"] for result in proof["invariants"]} == dict.fromkeys(INVARIANTS, "holds")


def switch(bench: Bank, verb: str, process: subprocess.Popen[str]) -> None:
    """Switch under load: pgbench is told why it may not write here any more, and gives up."""
    bench.cli(verb, "pgbench")
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    assert "is closed for writes in this database" in said, said


def sums(bench: Bank, side: Side) -> tuple[int, ...]:
    with bench.both[side].connect("test") as conn:
        row = conn.execute(sql.SQL(SUMS)).fetchone()
    assert row is not None
    return row


def test_there_and_back_and_there_again_under_pgbench(bench: Bank) -> None:
    make_context(bench)
    bench.cli("prepare", "pgbench")
    with bench.worker():
        with load(bench, Side.SHARED) as process:
            bench.await_streaming()
            verify(bench)
            switch(bench, "cutover", process)
        with load(bench, Side.SERVICE) as process:
            verify(bench)
            switch(bench, "rollback", process)
        with load(bench, Side.SHARED) as process:
            verify(bench)
            switch(bench, "cutover", process)
        with load(bench, Side.SERVICE):
            verify(bench)
        wait_until(lambda: sums(bench, Side.SHARED) == sums(bench, Side.SERVICE), bench.worker_log)
    assert len(set(sums(bench, Side.SERVICE))) == 1
