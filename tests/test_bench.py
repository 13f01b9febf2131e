"""The comparisons run, and a contestant that fails or does less than its job is found out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import apply, copy, data, diff, report, shop, verify
from bench.harness import BenchError, Comparison, Contestant, Details, Ends, Rig, compare, measure, rig
from bench.proc import cpu_seconds, private_bytes, tree
from contexts.embedded import available_majors
from tests.conftest import need

ROWS = 2000


@pytest.fixture(scope="module")
def bench() -> Iterator[Rig]:
    need("postgres16", 16 in available_majors(), "pip install 'carveout[embedded]'")
    with rig(16, 16) as made:
        yield made


def idle(_ends: Ends, **_options: object) -> Details:
    return {"done": 0}


def failing(_ends: Ends) -> Details:
    raise ValueError("out of order")


def dying(_ends: Ends) -> Details:
    os._exit(3)


def test_copy_compares_contestants_that_end_in_the_same_state(bench: Rig, tmp_path: Path) -> None:
    done = copy.contest(bench, ROWS, rounds=2, jobs=1)
    assert {len(rounds) for rounds in done.rounds.values()} == {2}
    report.write_json(tmp_path / "deep" / "bench.json", [done])
    stored = json.loads((tmp_path / "deep" / "bench.json").read_text())["comparisons"][0]
    assert stored["units"] == ROWS
    assert stored["median_s"].keys() == done.rounds.keys()
    lines = report.table(done).splitlines()
    assert [line[: len(name)] for line, name in zip(lines[2:], done.rounds, strict=False)] == [*done.rounds]
    assert " 1.00 " in lines[2]


def test_apply_replays_the_same_backlog_for_everybody(bench: Rig) -> None:
    done = apply.small(bench, ROWS, transactions=50, rounds=1)
    assert done.units == 250
    assert len(done.rounds) >= 2


def test_diff_knows_how_much_was_compared(bench: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.peers.reladiff", lambda: sys.executable)  # the tests install nothing
    monkeypatch.setattr("bench.diff.reladiff", idle)
    done = diff.contest(bench, ROWS, differences=3, rounds=1)
    assert done.rounds["carveout"][0].details == {"rows": ROWS, "differences": 3}


def test_the_cost_of_verify_is_measured_beside_pgbench(bench: Rig) -> None:
    need("pgbench", pgbench_is_there(), "install PostgreSQL's client programs")
    done = verify.contest(bench, rows=100_000, transactions=40, rounds=1)
    assert done.units == 40
    for name in ("beside verify", "beside verify --full-speed"):
        (taken,) = done.rounds[name]
        assert taken.details["rows_compared"] >= 100_000
        assert 0 < taken.details["verify_rss_mb"] < 100


def pgbench_is_there() -> bool:
    try:
        return bool(shop.program())
    except BenchError:
        return False


def test_a_contestant_that_does_less_is_an_error(bench: Rig) -> None:
    bench.recreate(bench.source)
    data.make(bench.ends.source, ROWS)
    bench.recreate(bench.target)
    with data.connect(bench.ends.target) as conn:
        data.execute(conn, "tables", "keys", "indexes")
    lazy = Contestant("lazy", idle, finish=data.require_equal)
    with pytest.raises(BenchError, match="the rows differ"):
        compare(bench, Comparison("copy", ROWS, "test"), [lazy], rounds=1)


@pytest.mark.parametrize(("run", "told"), [(failing, "out of order"), (dying, "its process died")])
def test_a_contestant_that_fails_is_named(bench: Rig, run: object, told: str) -> None:
    with pytest.raises(BenchError, match=f"(?s)broken.*{told}"):
        measure(bench, Contestant("broken", run))  # type: ignore[arg-type]


def test_a_process_tree_is_measured_as_a_whole() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    code = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\nprint('done', flush=True)\ninput()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        assert cpu_seconds(process.pid) >= 0.25  # user and system time are each cut to whole ticks
        assert private_bytes(process.pid) > 1_000_000
        assert process.pid in tree(os.getpid())
        process.communicate(b"\n")
    assert private_bytes(process.pid) == 0
