"""Cutover, rollback and cutover again while pgbench pays through PgBouncer with 16 clients: nobody sees an error.

The sum is pgbench's own: how many transactions it was told are done, against the rows of its history.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import signal
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from contexts.databases import Databases
from contexts.model import Side
from tests.bouncer import PgBouncerProcess, declaration
from tests.chaos.pairs import own_pair
from tests.conftest import need, server_folder
from tests.migrator import commands
from tests.migrator.moving import Bank
from tests.migrator.test_pgbench import make_context, pgbench, program, sums
from tests.waiting import PATIENCE_S, wait_until

CLIENTS = 16


@dataclass
class Seen:
    """What came of all switches."""

    blocked_ms: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    transactions: int = 0
    failed: int = 0

    def note(self, report: dict[str, object]) -> None:
        """One finished switch."""
        self.blocked_ms.append(float(str(report["write_block_ms"])))
        breakdown = report["breakdown_ms"]
        assert isinstance(breakdown, dict)
        for part, took in breakdown.items():
            self.parts[part].append(float(took))

    def lines(self) -> list[str]:
        """The result for a terminal."""
        shown = [
            f"{len(self.blocked_ms)} switches under {self.transactions} transactions: {self.failed} failed",
            f"writes blocked: median {statistics.median(self.blocked_ms):.0f} ms, max {max(self.blocked_ms):.0f} ms",
        ]
        return shown + [
            f"  {part:10} median {statistics.median(took):7.1f} ms, max {max(took):7.1f} ms"
            for part, took in self.parts.items()
        ]


def rounds(folder: Path, pair: Databases, number: int, *, rate: int, tell: Callable[[str], None] = print) -> Seen:
    """Move pgbench's tables there, back and there again, ``number`` times, under one load that never stops."""
    need("pgbench", program() is not None, "install PostgreSQL's client programs")
    bench, seen = Bank(folder, pair, "pgbench"), Seen()
    bench.environment = {"CARVEOUT_SHARED_URL": pair.shared.url, "PGBENCH_DATABASE_URL": pair.service.url}
    pgbench(bench, Side.SHARED, "-i", "-s", "1", "-q")
    with server_folder() as place, PgBouncerProcess(place / "bouncer", "a", {"pgbench": pair.shared}) as bouncer:
        bench.environment["BOUNCER_A"] = bouncer.admin_url
        make_context(bench)
        context = bench.folder / "contexts" / "pgbench" / "context.toml"
        context.write_text(context.read_text() + declaration(bouncer))
        commands.run(bench, "prepare", "pgbench")
        with bench.worker(), load(bouncer, rate) as process:
            bench.await_streaming()
            for done in range(number):
                verbs = ("cutover", "rollback", "cutover") + (("rollback",) if done + 1 < number else ())
                took = [_switch(bench, verb, seen, process) for verb in verbs]
                tell(f"round {done + 1}: blocked for {', '.join(f'{one:.0f}' for one in took)} ms")
            _end(process, seen)
            wait_until(lambda: sums(bench, Side.SHARED) == sums(bench, Side.SERVICE), bench.worker_log)
    _judge(bench, seen)
    return seen


@contextmanager
def load(bouncer: PgBouncerProcess, rate: int) -> Iterator[subprocess.Popen[str]]:
    """pgbench without end; SIGALRM ends it as its own time limit would: each client finishes its transaction."""
    command = [str(program()), "-n", "-c", str(CLIENTS), "-j", "2", "-T", "36000", "-R", str(rate)]
    process = subprocess.Popen(
        [*command, bouncer.url("pgbench")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait(PATIENCE_S)


def _switch(bench: Bank, verb: str, seen: Seen, process: subprocess.Popen[str]) -> float:
    bench.await_streaming()
    commands.run(bench, "verify", "pgbench")
    report = json.loads(commands.run(bench, verb, "pgbench", "--json").out)
    seen.note(report)
    assert process.poll() is None, process.communicate()[1]
    return float(report["write_block_ms"])


def _end(process: subprocess.Popen[str], seen: Seen) -> None:
    process.send_signal(signal.SIGALRM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "ERROR" not in err, err
    assert "aborted" not in err, err
    seen.transactions = int(_found(r"number of transactions actually processed: (\d+)", out))
    seen.failed = int(_found(r"number of failed transactions: (\d+)", out))


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]


def _judge(bench: Bank, seen: Seen) -> None:
    """What pgbench was told is done is there, once, on both sides, and every amount was added four times."""
    for side in Side:
        with bench.both[side].connect("test") as conn:
            there = conn.execute("SELECT count(*) FROM public.pgbench_history").fetchone()
        assert there == (seen.transactions,), f"{there} rows on the {side} side, {seen.transactions} acknowledged"
        assert len(set(sums(bench, side))) == 1


def main() -> None:
    """Run it on two servers of its own."""
    parser = argparse.ArgumentParser("bouncer", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rate", type=int, default=200, help="transactions per second")
    args = parser.parse_args()
    with own_pair("bouncer") as pair, tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        seen = rounds(Path(folder), pair, args.rounds, rate=args.rate, tell=lambda line: print(line, flush=True))
    print("\n".join([*seen.lines(), f"took {time.monotonic() - began:.0f} s"]))
    raise SystemExit(bool(seen.failed))


if __name__ == "__main__":
    main()
