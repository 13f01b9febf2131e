"""Alternating rounds of contestants on two throw-away servers: medians, spread, CPU by process, memory.

A contestant's ``run`` is timed in a process of its own, started and warmed up beforehand, so imports do not count and
its CPU and memory are its own. ``setup`` and ``finish`` run untimed in the bench's process. The order is turned round
in every second round, so that a slow drift of the machine favours nobody.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import psycopg

from bench.proc import cpu_seconds, machine_cpu_seconds, private_bytes
from contexts.embedded import Server

#: What a ``run`` returns for the report: counts, times of its phases.
Details = dict[str, float]
_SAMPLE_S = 0.25
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "16GB", "maintenance_work_mem": "256MB", "autovacuum": "off"}


class BenchError(Exception):
    """A contestant failed, or did not do what the others did."""


@dataclass(frozen=True)
class Ends:
    """The two databases of a round."""

    source: str
    target: str


@dataclass
class Rig:
    """Two running servers and the databases of the comparison on them."""

    source: Server
    target: Server
    ends: Ends

    def recreate(self, server: Server, template: str = "template0") -> str:
        """Make the round's database on ``server`` anew, as a copy of ``template``, and return its URL."""
        url = self.ends.source if server is self.source else self.ends.target
        name = url.rpartition("/")[2]
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return url

    def settle(self) -> None:
        """Write out what earlier rounds left dirty, so that no round pays for another."""
        for server in (self.source, self.target):
            with psycopg.connect(server.url(), autocommit=True) as conn:
                conn.execute("CHECKPOINT")


@contextlib.contextmanager
def rig(source_major: int, target_major: int) -> Iterator[Rig]:
    """Two servers, stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="carveout-bench-"))
    folder.chmod(0o755)  # the servers' account must reach its data
    try:
        with (
            Server(folder / "source", source_major, SETTINGS) as source,
            Server(folder / "target", target_major, SETTINGS) as target,
        ):
            yield Rig(source, target, Ends(source.url("shared"), target.url("service")))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _nothing(_rig: Rig) -> None:
    """The default of ``setup`` and ``finish``."""


@dataclass(frozen=True)
class Contestant:
    """One way to do the job; ``run`` is a module-level function or a ``functools.partial`` of one.

    Where ``run`` returns ``seconds``, that is its time: of a program that must start an interpreter first, say.
    """

    name: str
    run: Callable[[Ends], Details]
    setup: Callable[[Rig], None] = _nothing
    finish: Callable[[Rig], None] = _nothing


@dataclass
class Round:
    """What one run took; CPU and memory by ``client``, ``source`` and ``target``."""

    seconds: float
    cpu_s: dict[str, float]
    peak_mb: dict[str, float]
    #: How much of the machine's processors went to processes that are none of ours, from 0 to 1.
    others: float
    details: Details


@dataclass
class Comparison:
    """All rounds of one job; ``units`` rows are the size of the job, for the rates."""

    job: str
    units: int
    setting: str
    rounds: dict[str, list[Round]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return statistics.median(one.seconds for one in self.rounds[name])

    def as_json(self) -> dict[str, object]:
        return {
            "job": self.job,
            "units": self.units,
            "setting": self.setting,
            "median_s": {name: round(self.median(name), 3) for name in self.rounds},
            "ratio": {name: round(self.median(name) / self.median(next(iter(self.rounds))), 3) for name in self.rounds},
            "rounds": {name: [asdict(one) for one in rounds] for name, rounds in self.rounds.items()},
        }


def compare(bench: Rig, comparison: Comparison, contestants: Sequence[Contestant], rounds: int) -> Comparison:
    """Run every contestant ``rounds`` times in turn.

    :raises BenchError: a contestant failed; names it and carries its traceback.
    """
    for number in range(rounds):
        for contestant in contestants if number % 2 == 0 else reversed(contestants):
            contestant.setup(bench)
            bench.settle()
            taken = measure(bench, contestant)
            contestant.finish(bench)
            comparison.rounds.setdefault(contestant.name, []).append(taken)
            print(f"  {comparison.job} round {number + 1}: {contestant.name} {taken.seconds:.2f} s", file=sys.stderr)
    comparison.rounds = {one.name: comparison.rounds[one.name] for one in contestants}
    return comparison


def measure(bench: Rig, contestant: Contestant) -> Round:
    """Time one run.

    :raises BenchError: it failed or its process died.
    """
    ours, theirs = mp.Pipe()
    context = mp.get_context("spawn")  # a fork would inherit this process's memory and count it as its own
    process = context.Process(target=_contestant_process, args=(theirs, contestant.run, bench.ends))
    process.start()
    theirs.close()
    try:
        _answer(ours, contestant)
        return _timed(bench, contestant, ours, process.pid or 0)
    finally:
        ours.close()
        process.join(10)
        process.kill()


def _timed(bench: Rig, contestant: Contestant, pipe: Pipe, pid: int) -> Round:
    pids = {"client": pid, "source": _postmaster(bench.source), "target": _postmaster(bench.target)}
    before = {name: cpu_seconds(one) for name, one in pids.items()}
    machine, own = machine_cpu_seconds(), cpu_seconds(os.getpid())
    peak = dict.fromkeys(pids, 0)
    start = time.perf_counter()
    pipe.send("go")
    while not pipe.poll(_SAMPLE_S):
        peak = {name: max(peak[name], private_bytes(one)) for name, one in pids.items()}
    seconds = time.perf_counter() - start
    cpu = {name: round(cpu_seconds(one) - before[name], 2) for name, one in pids.items()}
    foreign = machine_cpu_seconds() - machine - (cpu_seconds(os.getpid()) - own)
    others = round(max(0.0, foreign) / seconds / (os.cpu_count() or 1), 2)
    details = _answer(pipe, contestant)
    seconds = details.pop("seconds", seconds)
    return Round(seconds, cpu, {name: round(size / 2**20, 1) for name, size in peak.items()}, others, details)


def _postmaster(server: Server) -> int:
    assert server.process is not None
    return server.process.pid


def _answer(pipe: Pipe, contestant: Contestant) -> Details:
    try:
        answer: Details | str = pipe.recv()
    except EOFError:
        raise BenchError(f"{contestant.name}: its process died") from None
    if isinstance(answer, str):
        raise BenchError(f"{contestant.name}:\n{answer}")
    return answer


def _contestant_process(pipe: Pipe, run: Callable[[Ends], Details], ends: Ends) -> None:
    """The body of the contestant's process: ready, go, done, and stay until the readings are taken."""
    pipe.send({})
    pipe.recv()
    try:
        pipe.send(run(ends))
    except Exception:
        pipe.send(traceback.format_exc())
    with contextlib.suppress(EOFError):
        pipe.recv()
