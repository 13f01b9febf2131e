"""Outbox events through a real Kafka: those that Debezium's own router sends; refusals, fencing, an inbox."""

from __future__ import annotations

import datetime as dt
import os
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cdc.kafka import connect, router
from cdc.kafka.connect import Names
from cdc.kafka.stack import Stack
from cdc.names import publication_name
from cdc.outbox.events import OutboxEvent
from cdc.outbox.sinks import SinkUnreachable
from cdc.outbox.sinks.kafka import KafkaTopics
from cdc.source.slots import create_slot, drop_slot
from contexts.catalog import read_tables
from contexts.databases import Databases
from migrator.messaging.consuming import consume_kafka
from migrator.messaging.inbox import Inbox, Message
from migrator.messaging.outbox import statements
from tests.kafka.moving import api
from tests.migrator import inprocess
from tests.waiting import PATIENCE_S, wait_until

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id int PRIMARY KEY);
CREATE TABLE shop.outbox (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL, aggregateid text, type text,
    payload jsonb, number bigint, at timestamp(3)
);
CREATE TABLE shop.said (id bigint PRIMARY KEY, kind varchar(20) NOT NULL, ref bigint, body bytea);
"""
DECLARED = """
[kafka]
bootstrap = "%s"
connect = "%s"
topic_prefix = "%s"

[outbox_sink]
kind = "kafka"
partitions = 3

[[outbox]]
table = "shop.outbox"
headers = { number = "number" }
timestamp = "at"
topic = "%s.event.{aggregate_type}"

[[outbox]]
table = "shop.said"
aggregate_type = "kind"
aggregate_id = "ref"
type = ""
payload = "body"
topic = "%s.said"
"""
ROWS = (
    """INSERT INTO shop.outbox (aggregatetype, aggregateid, type, payload, number, at) VALUES
    ('order', '1', 'made', '{"b": 1.50, "a": "é"}', 7, '2026-05-01 12:00:00.123'),
    ('order', '2', 'made', '"text"', -1, '2026-05-01 12:00:00'),
    ('stock', NULL, 'counted', '[1, null]', 0, '2026-05-01'),
    ('order', '1', 'gone', NULL, 9223372036854775807, '2026-05-01')""",
    r"INSERT INTO shop.said VALUES (1, 'x', 7, '\x00ff5c'), (2, 'x', 7, ''), (3, 'x', 8, NULL)",
    "UPDATE shop.outbox SET number = 1",
    "DELETE FROM shop.outbox",
    "INSERT INTO shop.outbox (aggregatetype, aggregateid, type, payload, number, at)"
    " SELECT 'many', (i % 5)::text, 't', to_jsonb(i), i, '2026-05-02' FROM generate_series(1, 200) i",
    "DELETE FROM shop.said",
)


def records(stack: Stack, topic: str, count: int) -> list[Any]:
    """The first records of a topic, once they are there."""
    from kafka import KafkaConsumer, TopicPartition

    found: list[Any] = []
    with closing(
        KafkaConsumer(bootstrap_servers=stack.bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    ) as consumer:
        wait_until(lambda: topic in consumer.topics())
        parts = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < count and time.monotonic() < deadline:
            for some in consumer.poll(timeout_ms=200).values():
                found += some
    return sorted(found, key=lambda record: (record.partition, record.offset))


def plain(record: Any, *, with_time: bool = True) -> tuple[Any, ...]:
    headers = [(name, value) for name, value in record.headers if value is not None]
    # Without a key any partition is as good.
    partition = record.partition if record.key is not None else None
    return partition, record.key, record.value, headers, record.timestamp if with_time else None


@pytest.mark.parametrize("source", ["embedded", "kafka"])
def test_events_are_those_of_debeziums_router(stack: Stack, tmp_path: Path, pair: Databases, source: str) -> None:
    with pair.shared.connect("test") as conn:
        conn.execute(TABLES.encode())
    prefix, theirs = f"outbox-{source}", f"router-{source}"
    bank = inprocess.project(tmp_path, pair, "shop", "shop.orders", "shop.outbox", "shop.said")
    bank.declare(DECLARED % (stack.bootstrap, stack.connect_url, prefix, prefix, prefix))
    file = tmp_path / "contexts" / "shop" / "context.toml"
    file.write_text(f'source = "{source}"\n' + file.read_text())
    for suite in (tmp_path / "contexts" / "shop" / "suites").glob("*.json"):
        suite.unlink()
    inprocess.prepare(bank)
    routers = [_router(stack, pair, bank.context.outbox[number], theirs, number) for number in (0, 1)]
    with inprocess.worker(bank):
        bank.await_streaming()
        with pair.shared.connect("test") as conn:
            for statement in ROWS:
                conn.execute(statement.encode())
        for topic, count in (("event.order", 3), ("event.stock", 1), ("said", 3), ("event.many", 200)):
            ours = records(stack, f"{prefix}.{topic}", count)
            router = records(stack, f"{theirs}.{topic}", count)
            # Where no column holds the time, the router takes its own clock, and we the time of the commit.
            with_time = topic != "said"
            assert [plain(r, with_time=with_time) for r in ours] == [plain(r, with_time=with_time) for r in router]
            assert len(ours) == count
    for names in routers:
        connect.delete(api(stack), names)
        with pair.shared.connect("test") as conn:
            drop_slot(conn, names.slot)


def _router(stack: Stack, pair: Databases, outbox: Any, prefix: str, number: int) -> Names:
    """Debezium's router on the same table, as ``carveout outbox connector`` configures it, for topics of its own."""
    name = f"{prefix}-{number}"
    names = Names(name, name, name.replace("-", "_"), publication_name("shop"))
    outbox = outbox.model_copy(update={"topic": outbox.topic.replace("outbox", "router", 1)})
    with pair.shared.connect("test") as conn:
        create_slot(conn, names.slot, publication=names.publication, timeout_s=PATIENCE_S)
        table = read_tables(conn, [outbox.table])[outbox.table]
    types = {column.name: column.base_type_sql for column in table.columns}
    config = router.settings(names, pair.shared, outbox, types, partitions=3)
    connect.apply(api(stack), names, config)
    return names


def event(number: int, key: str | None, topic: str, payload: bytes | None = b"{}") -> OutboxEvent:
    return OutboxEvent(topic, key, f"e{number}", (("id", f"e{number}"), ("eventType", None)), payload, AT)


def test_what_kafka_refuses_holds_only_its_key(stack: Stack) -> None:
    from kafka.admin import KafkaAdminClient

    topic = "outbox-refusals"
    with closing(KafkaAdminClient(bootstrap_servers=stack.bootstrap)) as admin:
        admin.create_topics({topic: {"num_partitions": 1, "configs": {"max.message.bytes": "2000"}}})
    large = os.urandom(5000)
    with closing(KafkaTopics(stack.bootstrap, "outbox-refusals", {})) as sink:
        outcome = sink.publish({
            0: event(0, "a", topic), 1: event(1, "b", topic, large), 2: event(2, "b", topic),
            3: event(3, "c", "no topic"), 4: event(4, None, topic, None), 5: event(5, "d", topic),
            6: event(6, "e", "outbox-nowhere"),
        })  # fmt: skip
    assert sorted(outcome.delivered) == [0, 5]
    assert outcome.refused.keys() == {1, 3, 4, 6}
    assert "TooLarge" in outcome.refused[1]
    assert "there is no topic outbox-nowhere" in outcome.refused[6]
    assert [record.key for record in records(stack, topic, 2)] == [b"a", b"d"]


def test_a_publisher_that_was_thought_dead_is_fenced(stack: Stack) -> None:
    topic = "outbox-fenced"
    with (
        closing(KafkaTopics(stack.bootstrap, "outbox-fenced", {}, partitions=1)) as old,
        closing(KafkaTopics(stack.bootstrap, "outbox-fenced", {}, partitions=1)) as new,
    ):
        old.publish({1: event(1, "k", topic)})
        new.publish({2: event(2, "k", topic)})
        with pytest.raises(SinkUnreachable):
            old.publish({1: event(1, "k", topic)})
        new.publish({3: event(3, "k", topic)})
    assert [dict(record.headers)["id"] for record in records(stack, topic, 3)] == [b"e1", b"e2", b"e3"]


def give(stop: threading.Event, session: psycopg.Connection, message: Message) -> None:
    session.execute("INSERT INTO given (id) VALUES (%s)", (message.id,))
    if message.key == "end":
        stop.set()


def test_an_inbox_handles_a_topic_once_whatever_is_delivered_again(stack: Stack, pair: Databases) -> None:
    from kafka import KafkaConsumer

    topic, wanted = "outbox-inbox", 30
    with pair.service.connect("test") as conn:
        conn.execute(statements("public")["inbox"].encode())
        conn.execute("CREATE TABLE public.given (number bigint GENERATED ALWAYS AS IDENTITY, id text)")
    events = {number: event(number, f"k{number % 3}", topic) for number in range(wanted)}
    inbox = Inbox(lambda: psycopg.connect(pair.service.url), "public", "points")
    with closing(KafkaTopics(stack.bootstrap, "outbox-inbox", {}, partitions=1)) as sink:
        sink.publish({number: one for number, one in events.items() if number < 20})
        sink.publish(events)  # as after a crash between the sink's answer and the queue
        for group in ("first", "second"):  # as if the consumer had lost its offsets, too
            sink.publish({0: OutboxEvent(topic, "end", group, (("id", group),), None, AT)})
            stop = threading.Event()
            with closing(
                KafkaConsumer(
                    topic, bootstrap_servers=stack.bootstrap, isolation_level="read_committed", group_id=group,
                    enable_auto_commit=False, auto_offset_reset="earliest",
                )
            ) as consumer:  # fmt: skip
                consume_kafka(consumer, inbox, partial(give, stop), stop)
    with pair.service.connect("test") as conn:
        rows = conn.execute("SELECT id FROM public.given ORDER BY number").fetchall()
    assert [name for (name,) in rows] == [*(f"e{number}" for number in range(wanted)), "first", "second"]
