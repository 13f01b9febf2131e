"""What a verification costs a running pgbench, and how much memory its process takes."""

from __future__ import annotations

import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from bench import data
from bench.harness import BenchError, Comparison, Contestant, Details, Ends, Rig, compare
from bench.proc import peak_bytes
from bench.shop import NAME, Shop, program, streaming

_CLIENTS = 4
_LOOK_S = 0.05  # between two looks at the memory of a process
_ROWS = "SELECT coalesce(sum(rows_open), 0)::int8 FROM carveout.verification_segment"


def contest(bench: Rig, rows: int, transactions: int, rounds: int) -> Comparison:
    """The same transactions alone, beside ``verify`` as it comes, and beside one that does not rest."""
    with streaming(bench, rows) as shop:
        each = max(1, transactions // _CLIENTS)
        run = partial(pgbench, each=each)
        beside = [Beside(shop), Beside(shop, ("--full-speed",))]
        contestants = [Contestant("pgbench alone", run, finish=lambda _: shop.settle())]
        names = ("beside verify", "beside verify --full-speed")
        contestants += [Contestant(name, run, one.start, one.end) for name, one in zip(names, beside, strict=True)]
        done = compare(bench, Comparison("verify-cost", each * _CLIENTS, f"{rows:,} accounts"), contestants, rounds)
    for name, one in zip(names, beside, strict=True):
        for taken, seen in zip(done.rounds[name], one.seen, strict=True):
            taken.details.update(seen)
    return done


def pgbench(ends: Ends, each: int) -> Details:
    """So many transactions for each client; a row is a transaction here."""
    line = [program(), "-n", "-c", str(_CLIENTS), "-j", "2", "-t", str(each), ends.source]
    subprocess.run(line, check=True, capture_output=True)
    return {}


@dataclass
class Beside:
    """Runs ``carveout verify`` one after the other while a round lasts."""

    shop: Shop
    options: tuple[str, ...] = ()
    #: By round: the rows that were compared, and the largest resident set of a verify process, in MB.
    seen: list[Details] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _rows_before: int = 0
    _peak: int = 0
    _failure: str = ""

    def start(self, _: Rig) -> None:
        """Begin, and wait until the first one reads."""
        self._over.clear()
        self._rows_before, self._peak, self._failure = self._rows(), 0, ""
        self._thread = threading.Thread(target=self._loop, daemon=True)  # a bench that is told to end does not wait
        self._thread.start()

    def end(self, _: Rig) -> None:
        """Let the last one end.

        :raises BenchError: one failed, or found a difference.
        """
        self._over.set()
        assert self._thread is not None
        self._thread.join()
        if self._failure:
            raise BenchError(self._failure)
        self.seen.append({"rows_compared": self._rows() - self._rows_before, "verify_rss_mb": self._peak / 2**20})
        self.shop.settle()

    def _loop(self) -> None:
        while not self._over.is_set():
            process = subprocess.Popen(
                self.shop.command("verify", NAME, *self.options), env=self.shop.environment(),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            while process.poll() is None:
                self._peak = max(self._peak, peak_bytes(process.pid))
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_S)
            if process.returncode:
                self._failure = f"verify ended with {process.returncode}"
                return

    def _rows(self) -> int:
        with data.connect(self.shop.bench.ends.target) as conn:
            if conn.execute("SELECT to_regclass('carveout.verification_segment')").fetchone() == (None,):
                return 0
            found: int = conn.execute(_ROWS).fetchall()[0][0]
        return found
