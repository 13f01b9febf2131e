"""A stream whose rows come in four partitions goes the whole way, whatever is killed: transactions stay whole.

``CARVEOUT_FAULT_ROUNDS=20`` plays all faults so many times.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cdc.kafka import connect, place, topic
from cdc.kafka.connect import Names
from cdc.kafka.stack import Stack
from cdc.state.position import StreamId
from contexts.databases import Databases
from contexts.model import Side
from tests.kafka.moving import api, kafka_bank, left
from tests.kafka.test_groups import BACK_S, ROUNDS, Fleet, at_work, frozen_inside_a_batch, killed, stopped_in_turn
from tests.migrator.commands import run
from tests.waiting import wait_until

PARTITIONS = 4
NAMES = Names.of(StreamId("bank", 1), "parted")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases, stack: Stack) -> Iterator[Fleet]:
    bank = kafka_bank(
        tmp_path_factory.mktemp("parted"), module_pair, stack, prefix="parted",
        more=f'group = "parted"\ngroup_session_s = 2\npartitions = {PARTITIONS}\n',
    )  # fmt: skip
    run(bank, "prepare", "bank", "--skip-check")
    assert left(stack, "parted") == [NAMES.topic, NAMES.rows]
    with at_work(bank, stack) as fleet:
        yield fleet


def stored(fleet: Fleet) -> tuple[int, ...]:
    with fleet.bank.both.service.connect("test") as conn:
        row = conn.execute("SELECT parts FROM carveout.position WHERE epoch = 1").fetchone()
    assert row is not None
    return tuple(row[0])


def test_rows_are_in_all_partitions_and_nowhere_else(fleet: Fleet) -> None:
    fleet.payments.pay_some()
    fleet.settle()
    written = topic.written(fleet.stack.bootstrap, NAMES.rows)
    assert len(written) == PARTITIONS
    assert all(written)
    assert all(stored(fleet)), "each partition has its position"


def a_reader_killed(fleet: Fleet) -> None:
    """One of the processes that read the partitions dies; the worker starts them anew."""
    threads = Path(f"/proc/{fleet.holder().process.pid}/task").glob("*/children")
    children = [int(pid) for thread in threads for pid in thread.read_text().split()]
    readers = sorted(pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
    assert len(readers) == PARTITIONS
    os.kill(readers[2], signal.SIGKILL)
    wait_until(lambda: "the process that reads partition" in fleet.bank.worker_log())


def connector_stopped_and_resumed(fleet: Fleet) -> None:
    one = api(fleet.stack)
    connect.stop(one, NAMES)
    fleet.payments.pay_some()
    connect.resume(one, NAMES)
    connect.await_running(one, NAMES)


def set_back(fleet: Fleet) -> None:
    """The connector sends everything again that ended since it was stopped, and some of what is applied."""
    before = min(stored(fleet))
    at = wal_position(fleet)
    fleet.payments.pay_some()
    place.rewind(api(fleet.stack), NAMES, at)
    fleet.payments.pay_some()
    wait_until(lambda: min(stored(fleet)) > before, fleet.bank.worker_log, BACK_S)


def wal_position(fleet: Fleet) -> int:
    with fleet.bank.both.shared.connect("test") as conn:
        row = conn.execute("SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = %s",
                           (NAMES.slot,)).fetchone()  # fmt: skip
    assert row is not None
    return int(row[0])


def all_delivered_twice(fleet: Fleet) -> None:
    """Both topics are read again from their beginning."""
    with fleet.bank.both.service.connect("test") as conn:
        conn.execute("UPDATE carveout.position SET ordinal = 0, parts = '{}', owner = NULL")
        again = "SELECT owner IS NOT NULL AND ordinal > 0 FROM carveout.position"
        wait_until(lambda: conn.execute(again).fetchone() == (True,), fleet.bank.worker_log)


FAULTS: tuple[Callable[[Fleet], None], ...] = (
    killed, a_reader_killed, connector_stopped_and_resumed, set_back, all_delivered_twice,
)  # fmt: skip
#: What is the same with one partition: only in longer runs.
MORE = (stopped_in_turn, frozen_inside_a_batch)


@pytest.mark.parametrize("fault", FAULTS if ROUNDS == 1 else (FAULTS + MORE) * ROUNDS, ids=lambda fault: fault.__name__)
def test_nothing_is_lost_or_doubled(fleet: Fleet, fault: Callable[[Fleet], None]) -> None:
    fleet.settle()
    fault(fleet)
    fleet.settle()
    run(fleet.bank, "verify", "bank")


def test_status_tells_each_partition(fleet: Fleet) -> None:
    def parts() -> list[dict[str, Any]]:
        found = json.loads(run(fleet.bank, "status", "bank", "--json").out)["connector"]
        return list(found["partitions"])

    wait_until(lambda: len(parts()) == PARTITIONS)
    assert [one["partition"] for one in parts()] == list(range(PARTITIONS))
    assert all(one["lag_records"] >= 0 for one in parts())
    assert "4 partitions" in run(fleet.bank, "status", "bank").out


def test_no_record_can_be_decided_about(fleet: Fleet) -> None:
    found = run(fleet.bank, "stream", "skip", "bank", "--offset", "1", "--reason", "none", expect=4)
    assert "the rows come in 4 partitions" in found.err


def test_another_number_of_partitions_is_refused(fleet: Fleet) -> None:
    fleet.settle()
    for worker in list(fleet.workers):
        fleet.stop(worker)
    file = fleet.bank.folder / "contexts" / "bank" / "context.toml"
    declared = file.read_text()
    for count, why in ((3, "the stream began with 4 partitions of rows"), (1, "is not the one of this stream")):
        file.write_text(declared.replace(f"partitions = {PARTITIONS}", f"partitions = {count}"))
        assert why in run(fleet.bank, "worker", "bank", expect=4).err
    file.write_text(declared)


def test_over_and_back(fleet: Fleet) -> None:
    fleet.settle()
    run(fleet.bank, "verify", "bank")
    run(fleet.bank, "cutover", "bank")
    fleet.settle()
    run(fleet.bank, "verify", "bank")
    run(fleet.bank, "rollback", "bank")
    fleet.settle()
    assert fleet.bank.is_open(Side.SHARED)
    run(fleet.bank, "abort", "bank", "--confirm", "bank")
    assert left(fleet.stack, "parted") == []
