"""``python -m tests.chaos.lockstep --transactions 1000000``: random statements while lockstep is entered and left.

At the end both sides must be equal byte for byte, every acknowledged payment must be on both exactly once, and the
audit must have compared as many transactions as were written to both sides.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from contexts.databases import Connection, Databases
from contexts.errors import RefusedError
from contexts.model import Side
from migrator.lockstep import findings, phase
from tests.chaos.lockstep_writers import ACCOUNTS, Counters, counters, start
from tests.chaos.pairs import own_pair
from tests.migrator import inprocess
from tests.migrator.driving import driver
from tests.migrator.moving import Bank
from tests.waiting import wait_until

OPTIONS = "batch_age_ms = 20\nlockstep_census_s = 0\nswitch_deadline_ms = 20000"


@dataclass
class Seen:
    """What a run saw."""

    acknowledged: int = 0
    dual: int = 0
    audited: int = 0
    differences: int = 0
    #: Writes that met the closed door of the other phase: the gate must keep them from it.
    refused: int = 0
    flips: int = 0
    longest_pause_ms: float = 0.0
    #: What is wrong in the end; empty where nothing is.
    problems: tuple[str, ...] = ()


def lockstep(
    folder: Path, pair: Databases, *, transactions: int, processes: int = 8, per_phase: int = 300, mutant: str = ""
) -> Seen:
    """Write, flip the phase after every ``per_phase`` payments, compare.

    :raises AssertionError: the sides differ, and the audit has not noticed.
    """
    bank = Bank.create(folder, pair, accounts=ACCOUNTS, options=OPTIONS)
    bank.expand_variables()
    inprocess.prepare(bank)
    seen, shared = Seen(), counters()
    with inprocess.worker(bank):
        bank.await_streaming()
        urls = {side: pair[side].url for side in Side}
        running = [start(n, urls, transactions // processes, shared, mutant) for n in range(processes)]
        try:
            while any(process.is_alive() for process in running):
                _flip(bank, seen, shared, per_phase, running)
        finally:
            shared.stop.set()
            for process in running:
                process.join(30)
        wait_until(lambda: _has_left(bank), bank.state)
        seen.acknowledged, seen.dual = shared.acknowledged.value, shared.dual.value
        seen.refused = shared.refused.value
        _judge(bank, seen)
    return seen


def _flip(bank: Bank, seen: Seen, shared: Counters, per_phase: int, running: list[object]) -> None:
    goal = shared.acknowledged.value + per_phase

    def is_done() -> bool:
        return shared.acknowledged.value >= goal or not any(p.is_alive() for p in running)  # type: ignore[attr-defined]

    wait_until(is_done, lambda: f"{shared.acknowledged.value} of {goal}", patience_s=300)
    # A worker that has found something leaves by itself, and is the driver meanwhile.
    with suppress(RefusedError), driver(bank) as run:
        entering = bank.state() == "streaming"
        waited = phase.enter(run) if entering else phase.leave(run, "a flip")
        seen.flips += 1
        seen.longest_pause_ms = max(seen.longest_pause_ms, waited)


def _ever_found(conn: Connection, context: str) -> int:
    """The worker repairs what it finds, so what counts is what was ever found."""
    row = conn.execute("SELECT count(*) FROM carveout.lockstep_difference WHERE context = %s", (context,)).fetchone()
    return int(row[0]) if row else 0


def _has_left(bank: Bank) -> bool:
    with suppress(RefusedError):
        if bank.state() == "lockstep":
            with driver(bank) as run:
                phase.leave(run, "the end")
        return True
    return False


def _judge(bank: Bank, seen: Seen) -> None:
    problems: list[str] = []
    with bank.both.service.connect("chaos") as conn:

        def is_over() -> bool:
            """The audit has caught up, and the sides are equal or it has said why not."""
            seen.audited, seen.differences = findings.audited(conn, bank.name), _ever_found(conn, bank.name)
            is_equal = seen.differences > 0 or bank.rows(Side.SHARED) == bank.rows(Side.SERVICE)
            return seen.audited >= seen.dual and is_equal

        wait_until(is_over, lambda: f"the sides differ; {seen.audited} of {seen.dual} audited")
    for side in Side:
        memos = Counter(memo for _, _, _, memo in _entries(bank, side) if memo and memo.startswith("p"))
        if len(memos) != seen.acknowledged or set(memos.values()) - {2}:
            problems.append(f"{len(memos)} payments on the {side} side, {seen.acknowledged} acknowledged")
    if seen.differences:
        problems.append(f"{seen.differences} differences")
    if seen.refused:
        problems.append(f"{seen.refused} writes refused")
    if seen.audited != seen.dual:
        problems.append(f"{seen.audited} transactions audited, {seen.dual} written to both sides")
    seen.problems = tuple(problems)


def _entries(bank: Bank, side: Side) -> list[tuple[object, object, object, str | None]]:
    with bank.both[side].connect("chaos") as conn:
        return conn.execute("SELECT id, account, amount, memo FROM bank.entry").fetchall()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--per-phase", type=int, default=2_000, help="payments between two flips")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    began = time.monotonic()
    with own_pair("lockstep") as pair, tempfile.TemporaryDirectory() as folder:
        seen = lockstep(
            Path(folder), pair, transactions=options.transactions, processes=options.processes,
            per_phase=options.per_phase,
        )  # fmt: skip
    print(seen)
    print(f"{seen.acknowledged / (time.monotonic() - began):.0f} payments/s")
    raise SystemExit(1 if seen.problems else 0)


if __name__ == "__main__":
    main()
