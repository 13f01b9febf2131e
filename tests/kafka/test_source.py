"""The source's place in the topic: it goes on exactly there, or refuses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from cdc.events import Idle, Insert, Transaction
from cdc.kafka import connect, topic
from cdc.kafka.settings import HEARTBEAT_PREFIX
from cdc.kafka.source import KafkaSource
from cdc.kafka.stack import Stack
from cdc.kafka.topic import KafkaUnreachable
from cdc.source import slots
from cdc.source.base import Source
from contexts.embedded import free_port
from contexts.errors import RefusedError, SchemaMismatch, StreamStopped
from tests.kafka.conftest import Stream, collect, until_idle
from tests.kafka.test_end_to_end import now

NewStream = Callable[[int], Stream]


def as_any_source(source: KafkaSource) -> Source:
    """The type checker's proof that the worker sees no difference."""
    return source


def test_without_a_broker_the_source_says_so(stream: Stream) -> None:
    with pytest.raises(KafkaUnreachable) as raised:
        KafkaSource(
            f"127.0.0.1:{free_port()}", "t", dict, stream.encoding(), stream.position(),
            options={"bootstrap_timeout_ms": 500},
        )  # fmt: skip
    assert raised.value.transient


@pytest.fixture
def stream(new_stream: NewStream) -> Stream:
    made = new_stream(16)
    with made.owner() as conn:
        conn.execute("CREATE TABLE app.t (id int PRIMARY KEY, v text)")
    made.prepare()
    made.connector()
    return made


def write(stream: Stream, first: int, last: int) -> None:
    with stream.owner() as conn:
        conn.execute(
            "INSERT INTO app.t SELECT n, repeat('x', n %% 100) FROM generate_series(%s::int, %s::int) n", [first, last]
        )


def ids(found: list[Transaction]) -> list[int]:
    return [int(c.new[0]) for t in found for c in t.changes if isinstance(c, Insert) and isinstance(c.new[0], bytes)]


def test_a_new_source_goes_on_from_the_stored_position(stream: Stream) -> None:
    for n in range(1, 4):
        write(stream, n, n)
    found = until_idle(stream.source(), now(stream))
    assert ids(found) == [1, 2, 3]
    for done in found:
        again = until_idle(stream.source(stream.position(done.end_lsn, done.ordinal)), now(stream))
        assert ids(again) == [n for n in (1, 2, 3) if n > ids([done])[0]]
    # An offset of an earlier time is as good: what is applied is dropped by its LSN.
    again = until_idle(stream.source(stream.position(found[1].end_lsn, found[0].ordinal)), now(stream))
    assert ids(again) == [3]
    assert ids(until_idle(stream.source(stream.position(found[2].end_lsn, 0)), now(stream))) == []


def test_heartbeats_tell_how_far_a_quiet_stream_is(stream: Stream) -> None:
    source = stream.source()
    beyond = now(stream)
    # No request: the connector's own heartbeat is enough.
    events = collect(source, lambda found: any(isinstance(e, Idle) and e.lsn >= beyond for e in found))
    assert all(isinstance(e, Idle) for e in events)
    lsns = [e.lsn for e in events if isinstance(e, Idle)]
    assert lsns == sorted(set(lsns))


def test_a_topic_made_anew_is_refused(stream: Stream) -> None:
    write(stream, 1, 3)
    [done] = until_idle(stream.source(), now(stream))
    connect.delete(stream.api, stream.names)
    topic.drop(stream.stack.bootstrap, stream.names.topic)
    _gone(stream)
    topic.make(stream.stack.bootstrap, stream.names.topic)
    placeholder = "p" * 30
    wanted = connect.config(stream.names, stream.database, placeholder=placeholder)
    stream.connector(**{"unavailable.value.placeholder": placeholder})
    assert wanted["unavailable.value.placeholder"] == placeholder
    with pytest.raises(StreamStopped, match="made anew or cut"):
        stream.source(stream.position(done.end_lsn, done.ordinal))
    # Also once it has grown past the offset: what stands there is not the end of what was applied.
    for n in range(4, 12):
        write(stream, n, n)
    until_idle(stream.source(stream.position(done.end_lsn, 0)), now(stream))
    with pytest.raises(StreamStopped, match="ends nothing"):
        stream.source(stream.position(done.end_lsn, done.ordinal))


def test_a_connector_made_again_without_its_offset_is_refused(stream: Stream) -> None:
    write(stream, 1, 3)
    [done] = until_idle(stream.source(), now(stream))
    known = connect.current(stream.api, stream.names)
    assert known is not None
    connect.delete(stream.api, stream.names)
    with stream.database.connect("test") as conn:  # and its slot, so that what lies between cannot be had
        slots.drop_slot(conn, stream.names.slot)
        write(stream, 4, 4)
        slots.create_slot(conn, stream.names.slot, publication=stream.names.publication)
    connect.apply(stream.api, stream.names, known)
    write(stream, 5, 5)
    source = stream.source(stream.position(done.end_lsn, done.ordinal))
    with pytest.raises(StreamStopped, match="began without its place"):
        collect(source, lambda found: any(isinstance(e, Transaction) for e in found))


def test_a_connector_that_is_restarted_goes_on_from_its_offset(stream: Stream) -> None:
    write(stream, 1, 3)
    [done] = until_idle(stream.source(), now(stream))
    known = connect.current(stream.api, stream.names)
    assert known is not None
    stream.api.call("DELETE", f"/connectors/{stream.names.connector}")  # its offsets stay
    write(stream, 4, 4)
    connect.apply(stream.api, stream.names, known)
    found = until_idle(stream.source(stream.position(done.end_lsn, done.ordinal)), now(stream))
    assert ids(found) == [4]


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_connector_restarted_right_behind_an_end_says_it_twice(
    new_stream: NewStream, partitions: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It stored its place with END while the transaction counted as open, and ends it at the next message."""
    stream = new_stream(16)
    stream.partitions = partitions
    with stream.owner() as conn:
        conn.execute("CREATE TABLE app.t (id int PRIMARY KEY, v text)")
    stream.prepare()
    stream.connector(**{"heartbeat.interval.ms": "600000"})  # the message below comes first
    source = stream.source()
    write(stream, 1, 1)
    [done] = [e for e in collect(source, lambda found: bool(found)) if isinstance(e, Transaction)]
    stream.stop()
    with stream.database.connect("test") as conn:
        conn.execute("SELECT pg_logical_emit_message(false, %s, '')", [HEARTBEAT_PREFIX])
    stream.resume()
    write(stream, 2, 2)
    again = stream.source(stream.position(done.end_lsn, done.ordinal, done.parts))
    with caplog.at_level(logging.INFO, "cdc.kafka"):
        for one in (source, again):
            assert ids(until_idle(one, now(stream))) == [2]
            assert "was sent again" in caplog.text
            caplog.clear()


def cut(stream: Stream, before: int) -> None:
    """Delete the topic's records before an offset."""
    from kafka import TopicPartition
    from kafka.admin import KafkaAdminClient

    admin: Any = KafkaAdminClient(bootstrap_servers=stream.stack.bootstrap)
    admin.delete_records({TopicPartition(stream.names.topic, 0): before})
    admin.close()


def test_a_cut_topic_is_refused(stream: Stream) -> None:
    for n in range(1, 6):
        write(stream, n, n)
    found = until_idle(stream.source(), now(stream))
    cut(stream, found[3].ordinal)
    for position in (stream.position(), stream.position(found[0].end_lsn, found[0].ordinal)):
        with pytest.raises(StreamStopped, match="made anew or cut"):
            stream.source(position)


def test_a_topic_cut_while_it_is_read_stops_the_stream(stream: Stream) -> None:
    write(stream, 1, 1)
    [done] = until_idle(stream.source(), now(stream))
    running = stream.source(stream.position(done.end_lsn, done.ordinal))
    write(stream, 2, 3)
    [late] = until_idle(stream.source(stream.position(done.end_lsn, done.ordinal)), now(stream))
    cut(stream, late.ordinal)
    for _ in range(2):
        with pytest.raises(StreamStopped, match="is gone"):
            until_idle(running, now(stream))


def test_a_poisoned_record_stops_the_stream_at_its_place(stream: Stream) -> None:
    from kafka import KafkaProducer

    write(stream, 1, 1)
    source = stream.source()
    [done] = until_idle(source, now(stream))
    producer: Any = KafkaProducer(bootstrap_servers=stream.stack.bootstrap)
    at = producer.send(stream.names.topic, b'{"schema":null,"payload":{"op":"x"}}', partition=0).get(30).offset
    producer.close()
    write(stream, 2, 2)
    for _ in range(2):  # it stays stopped
        with pytest.raises(StreamStopped, match=f"partition 0, offset {at}: no event of Debezium"):
            collect(source, lambda found: any(isinstance(e, Transaction) for e in found))
    with pytest.raises(StreamStopped, match=f"offset {at}"):
        collect(stream.source(stream.position(done.end_lsn, done.ordinal)), lambda found: False)


def test_a_changed_table_stops_the_stream_until_the_description_fits(stream: Stream) -> None:
    write(stream, 1, 1)
    with stream.database.connect("test") as conn:
        before = stream.tables(conn)
    with stream.owner() as conn:
        conn.execute("ALTER TABLE app.t ALTER v TYPE varchar(9)")
        conn.execute("INSERT INTO app.t VALUES (2, 'short')")
    source = stream.source(tables=before)
    first = collect(source, lambda found: any(isinstance(e, Transaction) for e in found))[-1]
    assert isinstance(first, Transaction)
    with pytest.raises(SchemaMismatch, match="column v has another type than text"):
        collect(source, lambda found: False)
    again = until_idle(stream.source(stream.position(first.end_lsn, first.ordinal)), now(stream))
    assert ids(again) == [2]


def test_a_restarted_worker_neither_loses_nor_doubles(stream: Stream) -> None:
    write(stream, 1, 2)
    stack: Stack = stream.stack
    stack.stop("connect")  # killed
    for n in range(3, 40):
        write(stream, n, n)
    stack.start_connect(time.monotonic() + 90)
    found = until_idle(stream.source(), now(stream))
    assert ids(found) == list(range(1, 40))


def test_a_worker_killed_inside_a_transaction_never_gives_half_of_it(stream: Stream) -> None:
    """The transaction is sent again whole, or the stream stops: Debezium 3.6 may leave out rows of a COPY here."""
    from kafka import KafkaConsumer, TopicPartition

    write(stream, 1, 1)
    consumer: Any = KafkaConsumer(bootstrap_servers=stream.stack.bootstrap)
    partition = TopicPartition(stream.names.topic, 0)
    consumer.assign([partition])
    begin = consumer.end_offsets([partition])[partition]
    with stream.owner() as conn, conn.cursor().copy("COPY app.t FROM STDIN") as copy:
        for n in range(2, 60_001):
            copy.write_row((n, "many"))
    deadline = time.monotonic() + 60
    while consumer.end_offsets([partition])[partition] < begin + 2000:
        assert time.monotonic() < deadline
    stream.stack.stop("connect")  # killed
    reached = consumer.end_offsets([partition])[partition]
    consumer.close()
    assert reached < begin + 59_999, "the transaction was whole already: nothing was tested"
    stream.stack.start_connect(time.monotonic() + 60)
    write(stream, 60_001, 60_001)
    source = stream.source()
    found: list[Transaction] = []
    why = ""
    try:
        found = until_idle(source, now(stream))
    except StreamStopped as stopped:
        why = stopped.message
    print(why or "all of it came again")
    assert "does not have that transaction any more" in why or ids(found) == list(range(1, 60_002))


def test_a_connector_that_loses_something_is_refused_by_column(stream: Stream) -> None:
    with stream.owner() as conn:
        conn.execute("ALTER TABLE app.t ADD c_zone timetz, ADD c_list text[], ADD c_bits varbit")
    with pytest.raises(RefusedError) as refused:
        stream.source()
    for column in ("c_zone", "c_list", "c_bits"):
        assert f"app.t.{column}: " in refused.value.message


def test_topics_that_could_lose_or_reorder_are_refused(stack: Stack) -> None:
    from kafka.admin import KafkaAdminClient

    admin: Any = KafkaAdminClient(bootstrap_servers=stack.bootstrap)
    admin.create_topics({
        "two": {"num_partitions": 2},
        "short": {"num_partitions": 1, "configs": {**topic.CONFIG, "retention.ms": "1000"}},
        "compact": {"num_partitions": 1, "configs": {**topic.CONFIG, "cleanup.policy": "compact"}},
    })  # fmt: skip
    admin.close()
    for name, why in (("two", "2 partitions"), ("short", "retention.ms=1000"), ("compact", "cleanup.policy=compact")):
        with pytest.raises(RefusedError, match=why):
            topic.make(stack.bootstrap, name)
    topic.make(stack.bootstrap, "good")
    topic.make(stack.bootstrap, "good")


def _gone(stream: Stream) -> None:
    from kafka.admin import KafkaAdminClient

    admin: Any = KafkaAdminClient(bootstrap_servers=stream.stack.bootstrap)
    deadline = time.monotonic() + 30
    while stream.names.topic in admin.list_topics():
        assert time.monotonic() < deadline
    admin.close()
