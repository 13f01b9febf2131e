"""Carveout's row diff against reladiff on the same tables: alternating rounds, medians.

Starts two throw-away servers. Run it with ``python bench/diff.py --reladiff PYTHON``, where PYTHON is an interpreter
that has ``reladiff[postgresql]`` installed; without it only Carveout is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from contexts.catalog import read_tables
from contexts.databases import Database
from contexts.embedded import Server, available_majors
from contexts.model import Side, TableName
from validations import state
from validations.barrier import Barrier, Snapshot
from validations.diff.model import DiffOptions
from validations.diff.run import diff
from validations.state.store import Verifications

TABLE = TableName("public", "entry")
COLUMNS = ("wallet_id", "amount", "kind", "note", "created_at")
CREATE = """
CREATE TABLE public.entry (
    id bigint PRIMARY KEY, wallet_id bigint NOT NULL, amount numeric(20, 4) NOT NULL,
    kind text NOT NULL, note text, created_at timestamptz NOT NULL
)
"""
FILL = """
INSERT INTO public.entry
SELECT i, i * 7919 %% 100003, (i * 104729 %% 1000000007) / 10000.0, (ARRAY['deposit', 'withdrawal', 'fee'])[1 + i %% 3],
       CASE WHEN i %% 5 > 0 THEN 'note ' || i END, '2024-01-01'::timestamptz + i * interval '1.234567 s'
FROM generate_series(1::int8, %s) AS i
"""
RELADIFF = """
import json, logging, sys, time
logging.disable(logging.CRITICAL)
from reladiff import connect_to_table, diff_tables
urls, columns = json.loads(sys.argv[1]), json.loads(sys.argv[2])
started = time.monotonic()
ours, theirs = (connect_to_table(url, "entry", ("id",)) for url in urls)
keys = {row[0] for _, row in diff_tables(ours, theirs, extra_columns=tuple(columns))}
print(json.dumps([time.monotonic() - started, len(keys)]))
"""
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
Measure = Callable[[], tuple[float, int]]


@dataclass(frozen=True)
class Sides:
    """Two databases and the servers they live on."""

    shared: Database
    service: Database
    servers: tuple[Server, Server]

    def __iter__(self) -> Iterator[Database]:
        return iter((self.shared, self.service))

    def cpu_s(self) -> float:
        """Processor seconds of all sessions that have ended, on both servers: steady where the wall clock is not."""
        for side in self:
            with side.connect("bench") as conn:
                while conn.execute(OTHERS).fetchall() != [(0,)]:
                    time.sleep(0.01)  # a session's time counts once its process has ended
        return sum(_ended_children_s(server.process.pid) for server in self.servers if server.process)


def main() -> None:
    options = _arguments()
    with _servers(options) as sides:
        ways: dict[str, Measure] = {"carveout": lambda: _carveout(sides, options.parallel)}
        if options.reladiff:
            ways["reladiff"] = lambda: _reladiff(sides, options.reladiff)
        report: dict[str, Any] = {"rows": options.rows, "machine": platform.platform(), "cases": {}}
        for case, count in (("equal", 0), ("10 differences", 10)):
            _differ(sides.service, options.rows, count)
            report["cases"][case] = _rounds(sides, ways, options.rounds, count)
    _print(report)
    Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reladiff", help="Python interpreter that has reladiff installed")
    parser.add_argument("--parallel", type=int, default=0, help="parallel workers per statement")
    parser.add_argument("--majors", default="16,18", help="the two servers' versions")
    parser.add_argument("--json", default="bench-diff.json", help="where the numbers go")
    return parser.parse_args()


@contextmanager
def _servers(options: argparse.Namespace) -> Iterator[Sides]:
    majors = [int(major) for major in options.majors.split(",")]
    assert set(majors) <= set(available_majors()), f"there are only {list(available_majors())}"
    with tempfile.TemporaryDirectory(prefix="carveout-bench-") as folder:
        Path(folder).chmod(0o755)
        settings = {"shared_buffers": "1GB"}
        with (
            Server(Path(folder) / "shared", majors[0], settings) as shared,
            Server(Path(folder) / "service", majors[1], settings) as service,
        ):
            sides = Sides(Database(Side.SHARED, shared.url()), Database(Side.SERVICE, service.url()), (shared, service))
            for side in sides:
                with side.connect("bench") as conn:
                    conn.execute(CREATE)
                    conn.execute(FILL, (options.rows,))
                    conn.execute("VACUUM ANALYZE public.entry")
            state.install(sides.service)
            yield sides


def _differ(side: Database, rows: int, count: int) -> None:
    """Change ``count`` rows, scattered over the table."""
    with side.connect("bench") as conn:
        for n in range(count):
            key = (2 * n + 1) * rows // (2 * count)
            conn.execute("UPDATE public.entry SET amount = amount + 0.01 WHERE id = %s", (key,))
        conn.execute("VACUUM public.entry")


def _carveout(sides: Sides, parallel: int) -> tuple[float, int]:
    started = time.monotonic()
    tables = []
    for side in sides:
        with side.connect("bench") as conn:
            tables.append(read_tables(conn, [TABLE]))
    store = Verifications(sides.service, "bench")
    result = diff(lambda: _barrier(sides), tables[0], tables[1], DiffOptions(parallel_workers=parallel), store)
    return time.monotonic() - started, result.differences


@contextmanager
def _barrier(sides: Sides) -> Iterator[Barrier]:
    with (
        sides.shared.connect("barrier", autocommit=False) as ours,
        sides.service.connect("barrier", autocommit=False) as theirs,
    ):
        names = [conn.execute("SELECT pg_export_snapshot()").fetchall()[0][0] for conn in (ours, theirs)]
        yield Barrier(1, Side.SHARED, Snapshot(sides.shared, names[0]), Snapshot(sides.service, names[1]))


def _reladiff(sides: Sides, python: str) -> tuple[float, int]:
    arguments = [json.dumps([side.url for side in sides]), json.dumps(COLUMNS)]
    done = subprocess.run([python, "-c", RELADIFF, *arguments], capture_output=True, text=True, check=True)
    seconds, keys = json.loads(done.stdout.splitlines()[-1])
    return seconds, keys


def _rounds(sides: Sides, ways: dict[str, Measure], rounds: int, expected: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, measure in ways.items():
            before = sides.cpu_s()
            took, found = measure()
            cpu[name].append(round(sides.cpu_s() - before, 2))
            assert found == expected, f"{name} found {found} differing keys instead of {expected}"
            seconds[name].append(round(took, 3))
    return {
        name: {
            "median_s": statistics.median(seconds[name]),
            "server_cpu_s": statistics.median(cpu[name]),
            "rounds_s": seconds[name],
        }
        for name in ways
    }


def _ended_children_s(pid: int) -> float:
    """``cutime + cstime`` of proc(5)'s stat, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _print(report: dict[str, Any]) -> None:
    print(f"{report['rows']:,} rows\n{'case':<16}{'way':<12}{'median s':>10}{'ratio':>8}{'CPU s':>10}{'ratio':>8}")
    for case, ways in report["cases"].items():
        for name, found in ways.items():
            shown = "".join(
                f"{found[key]:>10.2f}{found[key] / ways['carveout'][key]:>8.2f}" for key in ("median_s", "server_cpu_s")
            )
            print(f"{case:<16}{name:<12}{shown}")


if __name__ == "__main__":
    main()
