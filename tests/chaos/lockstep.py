"""``python -m tests.chaos.lockstep --transactions 1000000``: random statements while lockstep is entered and left.

At the end both sides must be equal byte for byte, every acknowledged payment must be on both exactly once, and the
audit must have compared as many transactions as were written to both sides. With ``--verify`` both sides are also
compared again and again meanwhile, and none of these comparisons may find anything.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from psycopg import sql

from contexts.databases import Databases
from contexts.errors import CarveoutError, RefusedError
from contexts.model import Side
from migrator.comparing import Manner
from migrator.lockstep import findings, phase
from migrator.verify import verify
from tests.chaos.lockstep_writers import ACCOUNTS, Counters, counters, start
from tests.chaos.pairs import own_pair
from tests.migrator import inprocess
from tests.migrator.driving import driver
from tests.migrator.moving import TABLE_NAMES, Bank
from tests.waiting import wait_until

OPTIONS = "batch_age_ms = 50\nlockstep_census_s = 0\nswitch_deadline_ms = 20000"
TELL_S = 10.0
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Course:
    """What a run does: it ends when it has had all of this."""

    transactions: int
    flips: int = 0
    processes: int = 8
    #: A phase lasts for so many payments, and for so long.
    per_phase: int = 300
    phase_s: float = 0.0
    mutant: str = ""
    #: Compare both sides all the while.
    verify: bool = False


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
    #: Comparisons that were finished; those that found no moment to compare; what the others found.
    verified: int = 0
    unanswered: int = 0
    alarms: tuple[str, ...] = ()
    seconds: float = 0.0
    #: What is wrong in the end; empty where nothing is.
    problems: tuple[str, ...] = ()


def _silent(_: str) -> None:
    """The default of what a run tells."""


def lockstep(folder: Path, pair: Databases, course: Course, tell: Tell = _silent) -> Seen:
    """Write, flip the phase again and again, compare.

    :raises AssertionError: the sides differ, and the audit has not noticed.
    """
    bank = Bank.create(folder, pair, accounts=ACCOUNTS, options=OPTIONS)
    bank.expand_variables()
    inprocess.prepare(bank)
    seen, shared = Seen(), counters()
    with inprocess.worker(bank):
        bank.await_streaming()
        began = time.monotonic()
        with _verifying(bank, seen) if course.verify else nullcontext(), _writing(bank, course, shared) as running:
            _flip_until_done(bank, course, seen, shared, running, tell)
        wait_until(lambda: _has_left(bank), bank.state)
        seen.seconds = time.monotonic() - began
        seen.acknowledged, seen.dual = shared.acknowledged.value, shared.dual.value
        seen.refused = shared.refused.value
        tell(f"{seen.acknowledged} payments in {seen.seconds:.0f} s; the audit catches up, both sides are compared")
        _judge(bank, seen)
    return seen


@contextmanager
def _writing(bank: Bank, course: Course, shared: Counters) -> Iterator[list[Any]]:
    urls = {side: bank.both[side].url for side in Side}
    running = [start(number, urls, shared, course.mutant) for number in range(course.processes)]
    try:
        yield running
    finally:
        shared.stop.set()
        for process in running:
            process.join(60)
    assert not [process.exitcode for process in running if process.exitcode], "a writer has failed"


@contextmanager
def _verifying(bank: Bank, seen: Seen) -> Iterator[None]:
    """Compare again and again in a thread."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                found = verify(bank.context, bank.both, Manner(full_speed=True))
            except CarveoutError as error:
                seen.unanswered += 1
                logging.getLogger(__name__).warning("not compared: %s", error)
                continue
            seen.verified += 1
            if not found.passed:
                seen.alarms += (f"verification {found.diff.verification}: {found.diff.verdict}",)

    thread = threading.Thread(target=work, name="verify")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _flip_until_done(bank: Bank, course: Course, seen: Seen, shared: Counters, running: list[Any], tell: Tell) -> None:
    began = told = time.monotonic()
    while shared.acknowledged.value < course.transactions or seen.flips < course.flips:
        goal, until = shared.acknowledged.value + course.per_phase, time.monotonic() + course.phase_s
        wait_until(
            lambda goal=goal, until=until: shared.acknowledged.value >= goal and time.monotonic() >= until,  # type: ignore[misc]
            lambda goal=goal: f"{shared.acknowledged.value} of {goal}",  # type: ignore[misc]
        )
        assert all(process.is_alive() for process in running), "a writer has failed"
        _flip(bank, seen)
        if time.monotonic() - told > TELL_S:
            told, done = time.monotonic(), shared.acknowledged.value
            rate = done / (told - began)
            tell(
                f"{done} payments, {shared.dual.value} on both sides, {rate:.0f}/s, {seen.flips} flips,"
                f" ~{max(0, course.transactions - done) / rate:.0f} s left"
            )


def _flip(bank: Bank, seen: Seen) -> None:
    # A worker that has found something leaves by itself, and is the driver meanwhile.
    with suppress(RefusedError), driver(bank) as run:
        entering = bank.state() == "streaming"
        waited = phase.enter(run) if entering else phase.leave(run, "a flip")
        seen.flips += 1
        seen.longest_pause_ms = max(seen.longest_pause_ms, waited)


def _has_left(bank: Bank) -> bool:
    with suppress(RefusedError):
        if bank.state() == "lockstep":
            with driver(bank) as run:
                phase.leave(run, "the end")
        return True
    return False


def _judge(bank: Bank, seen: Seen) -> None:
    with bank.both.service.connect("chaos") as conn:

        def is_over() -> bool:
            """The audit has caught up, and the sides are equal or it has said why not (what it finds is repaired)."""
            seen.audited, seen.differences = findings.audited(conn, bank.name), findings.found(conn, bank.name)
            return seen.audited >= seen.dual and (seen.differences > 0 or _digest(bank, Side.SHARED) == _digest(
                bank, Side.SERVICE))  # fmt: skip

        wait_until(is_over, lambda: f"the sides differ; {seen.audited} of {seen.dual} audited", patience_s=600)
    seen.problems = tuple(_problems(bank, seen))


def _problems(bank: Bank, seen: Seen) -> Iterator[str]:
    for side in Side:
        payments, torn = _payments(bank, side)
        if payments != seen.acknowledged or torn:
            yield f"{payments} payments on the {side} side, {torn} torn, {seen.acknowledged} acknowledged"
    if seen.differences:
        yield f"{seen.differences} differences"
    if seen.refused:
        yield f"{seen.refused} writes refused"
    if seen.audited != seen.dual:
        yield f"{seen.audited} transactions audited, {seen.dual} written to both sides"
    yield from seen.alarms


def _digest(bank: Bank, side: Side) -> str:
    """Of every byte of every row."""
    digest = sha256()
    with bank.both[side].connect("chaos") as conn:
        for table in TABLE_NAMES:
            query = sql.SQL("COPY (SELECT * FROM {} ORDER BY id) TO STDOUT").format(sql.Identifier(*table))
            with conn.cursor().copy(query) as rows:
                for chunk in rows:
                    digest.update(chunk)
    return digest.hexdigest()


def _payments(bank: Bank, side: Side) -> tuple[int, int]:
    """How many there are, and how many of them have not both entries."""
    with bank.both[side].connect("chaos", work_mem="64MB") as conn:
        row = conn.execute(
            "SELECT count(*), count(*) FILTER (WHERE entries <> 2) FROM"
            " (SELECT count(*) AS entries FROM bank.entry WHERE memo LIKE 'p%' GROUP BY memo) p"
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--phase-s", type=float, default=3.0, help="seconds between two flips")
    parser.add_argument("--per-phase", type=int, default=100, help="payments between two flips, at least")
    parser.add_argument("--verify", action="store_true", help="compare both sides all the while")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    course = Course(
        options.transactions, processes=options.processes, per_phase=options.per_phase, phase_s=options.phase_s,
        verify=options.verify,
    )  # fmt: skip
    with own_pair("lockstep") as pair, tempfile.TemporaryDirectory() as folder:
        seen = lockstep(Path(folder), pair, course, lambda line: print(line, flush=True))
    print(seen)
    print(f"{seen.acknowledged / seen.seconds:.0f} payments/s")
    raise SystemExit(1 if seen.problems else 0)


if __name__ == "__main__":
    main()
