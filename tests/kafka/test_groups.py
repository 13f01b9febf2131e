"""Several workers in one consumer group: one applies, and whatever happens to it another takes over.

``CARVEOUT_FAULT_ROUNDS=20`` plays all faults so many times, each time in another order.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cdc.kafka.stack import Stack
from contexts.databases import Databases
from contexts.model import Side
from tests.kafka.moving import have_stopped, kafka_bank
from tests.migrator.commands import run, start
from tests.migrator.moving import Bank, WorkerProcess
from tests.migrator.payments import Payments, assert_whole
from tests.waiting import wait_until

ROUNDS = int(os.environ.get("CARVEOUT_FAULT_ROUNDS", "1"))
BACK_S = 60.0
SESSION_S = 2


class Fleet:
    """A bank that moves, its workers, and the application that pays meanwhile."""

    def __init__(self, bank: Bank, stack: Stack, payments: Payments) -> None:
        self.bank, self.stack, self.payments = bank, stack, payments
        self.workers: list[WorkerProcess] = []

    def start(self, **environment: str) -> WorkerProcess:
        """One more worker."""
        self.workers.append(self.bank.worker(**environment))
        return self.workers[-1]

    def group(self) -> dict[str, Any]:
        """What ``status`` says of the group."""
        found: dict[str, Any] = self.worker()["group"] or {}
        return found

    def worker(self) -> dict[str, Any]:
        """What ``status`` says of the worker that is at work."""
        found: dict[str, Any] = json.loads(run(self.bank, "status", "bank", "--json").out)["worker"] or {}
        return found

    def holder(self) -> WorkerProcess:
        """The worker at work: it has reported just now, and streams."""
        found: list[WorkerProcess] = []

        def seen() -> bool:
            with self.bank.both.shared.connect("test") as conn:
                row = conn.execute(
                    "SELECT pid FROM carveout.worker WHERE report ->> 'phase' = 'streaming'"
                    " AND seen_at > clock_timestamp() - '2 s'::interval"
                ).fetchone()
            found[:] = [worker for worker in self.workers if row and worker.process.pid == row[0]]
            return bool(found) and found[0].process.poll() is None

        wait_until(seen, self.bank.worker_log, BACK_S)
        return found[0]

    def another_than(self, former: WorkerProcess) -> WorkerProcess:
        """The worker that has taken over."""
        wait_until(lambda: self.holder() is not former, self.bank.worker_log, BACK_S)
        return self.holder()

    def settle(self) -> None:
        """Two workers run, rows arrive, and both sides hold every acknowledged payment once."""
        for _ in range(2 - len(self.workers)):
            self.start()
        self.holder()
        assert_whole(self.bank, self.payments)
        assert all(worker.process.poll() is None for worker in self.workers), self.bank.worker_log()

    def kill(self, worker: WorkerProcess) -> None:
        """As a power cut would."""
        self.workers.remove(worker)
        worker.kill()

    def stop(self, worker: WorkerProcess) -> None:
        """Ask it to end."""
        self.workers.remove(worker)
        assert worker.stop() == 0, self.bank.worker_log()

    def end(self) -> None:
        """Kill what is left."""
        for worker in self.workers:
            worker.kill()


@contextmanager
def at_work(bank: Bank, stack: Stack) -> Iterator[Fleet]:
    """Two workers that follow the prepared bank, which pays meanwhile."""
    with Payments(bank) as payments:
        fleet = Fleet(bank, stack, payments)
        try:
            fleet.settle()
            yield fleet
        finally:
            fleet.end()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases, stack: Stack) -> Iterator[Fleet]:
    bank = kafka_bank(
        tmp_path_factory.mktemp("group"), module_pair, stack, prefix="group",
        more=f'group = "banks"\ngroup_session_s = {SESSION_S}\n',
    )  # fmt: skip
    run(bank, "prepare", "bank", "--skip-check")
    with at_work(bank, stack) as fleet:
        yield fleet


def test_one_works_and_status_says_which(fleet: Fleet) -> None:
    fleet.settle()
    holder = fleet.holder()
    wait_until(lambda: fleet.group().get("standing_by") == 1)
    assert fleet.worker()["pid"] == holder.process.pid
    assert (fleet.group()["name"], fleet.group()["topic"]) == ("banks", "group_bank_1")
    shown = run(fleet.bank, "status", "bank").out
    assert "this worker holds group_bank_1, 1 more stand by" in shown


def killed(fleet: Fleet) -> None:
    former = fleet.holder()
    fleet.kill(former)
    fleet.another_than(former)


def stopped_in_turn(fleet: Fleet) -> None:
    """The group is balanced anew about every second: a worker leaves, another comes."""
    for _ in range(3):
        former = fleet.holder()
        fleet.start()
        fleet.stop(former)
        fleet.another_than(former)


def frozen(fleet: Fleet) -> None:
    """The holder is silent for longer than its session; when it wakes, it stands by."""
    former = fleet.holder()
    former.process.send_signal(signal.SIGSTOP)
    _wake(fleet, former)


def frozen_inside_a_batch(fleet: Fleet) -> None:
    """It holds the rows' locks, and goes on with its commit when it wakes."""
    for point in ("apply.before_commit", "apply.after_commit"):
        others = list(fleet.workers)
        former = fleet.start(CARVEOUT_FREEZE_AT=f"{point}:5")
        for worker in others:
            fleet.stop(worker)
        # It is the only one, so it takes over, and stops in its fifth batch.
        wait_until(lambda one=former: _is_frozen(one), fleet.bank.worker_log, BACK_S)  # type: ignore[misc]
        fleet.start()
        _wake(fleet, former)


def _is_frozen(worker: WorkerProcess) -> bool:
    return Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _wake(fleet: Fleet, former: WorkerProcess) -> None:
    """Another has taken over, and applies, when it goes on."""
    fleet.another_than(former)
    fleet.payments.pay_some()
    former.process.send_signal(signal.SIGCONT)
    fleet.payments.pay_some()
    assert_whole(fleet.bank, fleet.payments)


def delivered_twice(fleet: Fleet) -> None:
    """The whole topic is read again, from an offset of long ago."""
    with fleet.bank.both.service.connect("test") as conn:
        # Without an owner nothing can be committed: the holder begins anew, from this offset.
        conn.execute("UPDATE carveout.position SET ordinal = 0, owner = NULL")
        wait_until(
            lambda: (
                conn.execute("SELECT owner IS NOT NULL AND ordinal > 0 FROM carveout.position").fetchone() == (True,)
            ),
            fleet.bank.worker_log,
        )


def broker_killed(fleet: Fleet) -> None:
    """With the broker goes who leads the group."""
    fleet.stack.stop("broker")
    fleet.stack.start_broker(time.monotonic() + BACK_S)
    if have_stopped(fleet.bank, *fleet.workers):
        # It met a transaction that Debezium had told the server that it has: as the docs say.
        assert "does not have that transaction any more" in fleet.bank.worker_log()
        fleet.workers.clear()
        run(fleet.bank, "abort", "bank", "--confirm", "bank")
        run(fleet.bank, "prepare", "bank", "--skip-check")


FAULTS: tuple[Callable[[Fleet], None], ...] = (
    killed, stopped_in_turn, frozen, frozen_inside_a_batch, delivered_twice, broker_killed,
)  # fmt: skip


def played() -> list[Callable[[Fleet], None]]:
    """All faults once, or many times in any order."""
    order, count = random.Random(5), len(FAULTS)
    return list(FAULTS) if ROUNDS == 1 else [fault for _ in range(ROUNDS) for fault in order.sample(FAULTS, count)]


@pytest.mark.parametrize("fault", played(), ids=lambda fault: fault.__name__)
def test_nothing_is_lost_or_doubled(fleet: Fleet, fault: Callable[[Fleet], None]) -> None:
    fleet.settle()
    began = time.monotonic()
    fault(fleet)
    fleet.settle()
    print(f"{fault.__name__}: whole again after {time.monotonic() - began:.1f} s")
    run(fleet.bank, "verify", "bank")


def test_a_proof_and_a_switch_find_whoever_is_at_work(fleet: Fleet) -> None:
    """A worker goes while a proof waits for its barrier; then over and back, on whichever worker."""
    fleet.settle()
    former = fleet.holder()
    former.process.send_signal(signal.SIGSTOP)  # so that it cannot answer
    verify = start(fleet.bank, "verify", "bank")
    with fleet.bank.both.shared.connect("test") as conn:
        asked = "SELECT count(*) FROM carveout.intent WHERE kind = 'barrier' AND state = 'requested'"
        wait_until(lambda: conn.execute(asked).fetchone() == (1,))
    fleet.kill(former)
    verify.end()
    fleet.settle()
    run(fleet.bank, "cutover", "bank")
    fleet.kill(fleet.holder())
    fleet.settle()
    run(fleet.bank, "verify", "bank")
    run(fleet.bank, "rollback", "bank")
    fleet.settle()
    assert fleet.bank.is_open(Side.SHARED)
    run(fleet.bank, "abort", "bank", "--confirm", "bank")
