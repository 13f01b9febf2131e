"""Everything that carries the stream is killed in turn, while an application pays: nothing is lost, nothing doubled.

``CARVEOUT_FAULT_ROUNDS=20`` plays all faults so many times, each time in another order.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from cdc.kafka import connect
from cdc.kafka.connect import Names
from cdc.kafka.stack import Stack
from cdc.state.position import StreamId
from contexts.databases import Database, Databases
from contexts.embedded import Server, available_majors
from contexts.errors import CarveoutError
from contexts.model import Side
from tests.conftest import need, server_folder
from tests.kafka.moving import api, have_stopped, kafka_bank
from tests.migrator.commands import run
from tests.migrator.moving import Bank, WorkerProcess
from tests.migrator.payments import Payments, assert_whole
from tests.waiting import wait_until

ROUNDS = int(os.environ.get("CARVEOUT_FAULT_ROUNDS", "1"))
BACK_S = 90.0


@pytest.fixture
def own() -> Iterator[dict[Side, Server]]:
    """Two servers that no other test uses."""
    for major in (16, 18):
        need(f"postgres{major}", major in available_majors(), "install that PostgreSQL server")
    with server_folder() as folder, ExitStack() as running:
        yield {
            side: running.enter_context(Server(folder / side, major))
            for side, major in ((Side.SHARED, 16), (Side.SERVICE, 18))
        }


@pytest.fixture
def bank(tmp_path: Path, own: dict[Side, Server], stack: Stack) -> Bank:
    for server in own.values():
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute("CREATE DATABASE faults")
    pair = Databases(*(Database(side, own[side].url("faults")) for side in Side))
    return kafka_bank(tmp_path, pair, stack, prefix="faults")


class Scene:
    """What the faults happen to."""

    def __init__(self, bank: Bank, stack: Stack, own: dict[Side, Server], payments: Payments) -> None:
        self.bank, self.stack, self.own, self.payments = bank, stack, own, payments
        self.worker: WorkerProcess = bank.worker()

    def settle(self) -> None:
        """The stream has come back, and both sides hold every acknowledged payment once."""
        wait_until(self._follows, self.bank.worker_log, BACK_S)
        assert_whole(self.bank, self.payments)

    def _follows(self) -> bool:
        self.bank.await_streaming()
        with self.bank.both.shared.connect("test") as conn:
            conn.execute("INSERT INTO bank.entry (account, amount) VALUES (1, 0)")
            row = conn.execute("SELECT max(id) FROM bank.entry").fetchone()
        with self.bank.both.service.connect("test") as conn:
            wait_until(
                lambda: conn.execute("SELECT 1 FROM bank.entry WHERE id = %s", row).fetchone() is not None,
                self.bank.worker_log,
                BACK_S,
            )
        return True

    def many_rows(self) -> None:
        """A transaction of 20,000 single-row statements, begun now and committed soon."""
        with self.bank.both.shared.connect("test") as conn:
            conn.execute(
                sql.SQL(
                    "INSERT INTO bank.entry (account, amount) SELECT 1 + g % 200, 0 FROM generate_series(1, 20000) g"
                )
            )


def worker_killed(scene: Scene) -> None:
    scene.worker.kill()
    scene.worker = scene.bank.worker()


def worker_frozen_past_its_session_and_continued(scene: Scene) -> None:
    """Another worker takes the stream over; the first one must not write any more when it wakes.

    It ends, fenced or refused; where it woke while it was about to try again anyhow, it waits for its lock.
    """
    frozen = scene.worker
    frozen.process.send_signal(signal.SIGSTOP)
    with scene.bank.both.shared.connect("test") as conn:  # as the server does with a client that went silent
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'carveout/worker-lock/bank'"
        )
    scene.worker = scene.bank.worker()
    scene._follows()
    try:
        frozen.process.send_signal(signal.SIGCONT)
        wait_until(lambda: frozen.process.poll() is not None or _waits_for_its_lock(scene), scene.bank.worker_log)
        assert frozen.process.poll() in (None, 4, 5), scene.bank.worker_log()
    finally:
        frozen.kill()


def _waits_for_its_lock(scene: Scene) -> bool:
    return "another worker is at work" in scene.bank.worker_log()


def broker_killed(scene: Scene) -> None:
    scene.stack.stop("broker")
    scene.stack.start_broker(time.monotonic() + BACK_S)


def broker_killed_inside_a_transaction(scene: Scene) -> None:
    at = end_offset(scene)
    scene.many_rows()
    wait_until(lambda: end_offset(scene) > at + 500)
    broker_killed(scene)
    if have_stopped(scene.bank, scene.worker):
        # Debezium had told the server that it has the transaction, so it cannot be sent again: as the docs say.
        assert "does not have that transaction any more" in scene.bank.worker_log()
        run(scene.bank, "abort", "bank", "--confirm", "bank")
        run(scene.bank, "prepare", "bank", "--skip-check")
        scene.worker = scene.bank.worker()


def connect_killed(scene: Scene) -> None:
    scene.stack.stop("connect")
    scene.stack.start_connect(time.monotonic() + BACK_S)


def shared_server_killed(scene: Scene) -> None:
    server_killed(scene.own[Side.SHARED])


def service_server_killed(scene: Scene) -> None:
    server_killed(scene.own[Side.SERVICE])


def server_killed(server: Server) -> None:
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    deadline = time.monotonic() + 30
    while True:
        try:
            server.start()
            return
        except CarveoutError:  # the killed postmaster's children hold its memory for a moment
            assert time.monotonic() < deadline


def records_delivered_twice(scene: Scene) -> None:
    """A range of the topic is written to it once more, as a producer without exactly-once would do."""
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition

    names = Names.of(StreamId("bank", 1), "faults")
    with scene.payments.paused():
        scene.bank.await_equal()
        # What two producers write at one time is no stream: Kafka's fencing keeps that out, and the decoder stops.
        api(scene.stack).call("PUT", f"/connectors/{names.connector}/pause")
        wait_until(lambda: connect.status(api(scene.stack), names) == connect.Status("PAUSED", ("PAUSED",)))
        partition = TopicPartition("faults_bank_1", 0)
        consumer: Any = KafkaConsumer(bootstrap_servers=scene.stack.bootstrap, isolation_level="read_committed")
        consumer.assign([partition])
        end = consumer.end_offsets([partition])[partition]
        consumer.seek(partition, max(0, end - 400))
        records: list[Any] = []
        while consumer.position(partition) < end:
            records += consumer.poll(timeout_ms=200).get(partition, [])
        consumer.close()
        first = next(i for i, r in enumerate(records) if r.value and b'"status":"BEGIN"' in r.value)
        last = max(i for i, r in enumerate(records) if r.value and b'"status":"END"' in r.value)
        producer: Any = KafkaProducer(bootstrap_servers=scene.stack.bootstrap, acks="all")
        for one in records[first : last + 1]:
            producer.send(partition.topic, key=one.key, value=one.value, headers=one.headers, partition=0)
        producer.flush()
        producer.close()
        connect.resume(api(scene.stack), names)


def end_offset(scene: Scene) -> int:
    from kafka import KafkaConsumer, TopicPartition

    consumer: Any = KafkaConsumer(bootstrap_servers=scene.stack.bootstrap)
    try:
        partition = TopicPartition("faults_bank_1", 0)
        return int(consumer.end_offsets([partition])[partition])
    finally:
        consumer.close()


@contextmanager
def scene_ended(scene: Scene) -> Iterator[None]:
    try:
        yield
    finally:
        scene.worker.kill()


FAULTS: tuple[Callable[[Scene], None], ...] = (
    worker_killed,
    worker_frozen_past_its_session_and_continued,
    connect_killed,
    shared_server_killed,
    records_delivered_twice,
    broker_killed_inside_a_transaction,
)
#: What the others show too, or other tests: only in longer runs.
MORE = (broker_killed, service_server_killed)


def test_whatever_is_killed_nothing_is_lost_or_doubled(bank: Bank, stack: Stack, own: dict[Side, Server]) -> None:
    run(bank, "prepare", "bank", "--skip-check")
    order = random.Random(3)
    with Payments(bank) as payments:
        scene = Scene(bank, stack, own, payments)
        with scene_ended(scene):
            scene.settle()
            for number in range(ROUNDS):
                for fault in FAULTS if ROUNDS == 1 else order.sample(FAULTS + MORE, len(FAULTS + MORE)):
                    began = time.monotonic()
                    fault(scene)
                    scene.settle()
                    print(f"round {number + 1}, {fault.__name__}: whole again after {time.monotonic() - began:.1f} s")
            run(bank, "verify", "bank")
            run(bank, "abort", "bank", "--confirm", "bank")
