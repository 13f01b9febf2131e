"""A source with several partitions stops where a row would be missing, and after all that came before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cdc.events import Transaction
from cdc.kafka import parted
from cdc.state.position import Position
from contexts.errors import SchemaMismatch, StreamStopped
from tests.kafka.conftest import Stream, collect, until_idle
from tests.kafka.test_end_to_end import now
from tests.kafka.test_source import ids, write

NewStream = Callable[[int], Stream]


@pytest.fixture
def stream(new_stream: NewStream) -> Stream:
    made = new_stream(16)
    made.partitions = 2
    with made.owner() as conn:
        conn.execute("CREATE TABLE app.t (id int PRIMARY KEY, v text)")
    made.prepare()
    made.connector()
    return made


def at_end_of(stream: Stream, last: Transaction) -> Position:
    return stream.position(last.end_lsn, last.ordinal, last.parts)


def test_it_goes_on_from_any_position(stream: Stream) -> None:
    for n in range(1, 8):
        write(stream, 10 * n, 10 * n + n)
    found = until_idle(stream.source(), now(stream))
    everything = [n for one in range(1, 8) for n in range(10 * one, 11 * one + 1)]
    assert ids(found) == everything
    for done in (1, 4, 7):
        rest = until_idle(stream.source(at_end_of(stream, found[done - 1])), now(stream))
        assert ids(rest) == [n for n in everything if n >= 10 * (done + 1)]


def test_rows_in_a_partition_that_was_added_stop_it(stream: Stream) -> None:
    from kafka.admin import KafkaAdminClient

    write(stream, 1, 5)
    source = stream.source()
    assert ids(until_idle(source, now(stream))) == [1, 2, 3, 4, 5]
    admin: Any = KafkaAdminClient(bootstrap_servers=stream.stack.bootstrap)
    admin.create_partitions({stream.names.rows: 7})
    admin.close()
    stream.stop()  # started anew it looks at the topic
    stream.resume()
    write(stream, 6, 60)
    with pytest.raises(StreamStopped, match="it has 7 partitions, and had 2 when the stream began"):
        until_idle(source, now(stream))
    with pytest.raises(StreamStopped, match="it has 7 partitions"):
        stream.source()


def test_a_position_that_skips_rows_stops_it(stream: Stream) -> None:
    for first in (1, 21, 41):
        write(stream, first, first + 19)
    one, two, _ = until_idle(stream.source(), now(stream))
    behind = stream.position(one.end_lsn, one.ordinal, (two.parts[0], one.parts[1]))
    with pytest.raises(StreamStopped, match="is no row that"):
        until_idle(stream.source(behind), now(stream))


def test_a_changed_table_stops_it_after_all_that_came_before(stream: Stream) -> None:
    with stream.owner() as conn:
        tables = stream.tables(conn)
    source = stream.source(tables=tables)
    write(stream, 1, 30)
    with stream.owner() as conn:
        conn.execute("ALTER TABLE app.t ADD COLUMN more int")
        conn.execute("INSERT INTO app.t SELECT n, 'x', n FROM generate_series(31, 60) n")
    found: list[Transaction] = []

    def reads_on() -> None:
        while True:
            if isinstance(event := source.poll(0.2), Transaction):
                found.append(event)

    with pytest.raises(SchemaMismatch, match="column more is new"):
        reads_on()
    assert ids(found) == list(range(1, 31))


def test_rows_that_are_nowhere_stop_it(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction is announced whose rows were never written."""
    from kafka import KafkaProducer

    monkeypatch.setattr(parted, "LOST_S", 3.0)
    write(stream, 1, 5)
    source = stream.source()
    [one] = until_idle(source, now(stream))
    stream.api.call("PUT", f"/connectors/{stream.names.connector}/pause")
    producer: Any = KafkaProducer(bootstrap_servers=stream.stack.bootstrap)
    for status, lsn, count in (("BEGIN", one.end_lsn + 10, "null"), ("END", one.end_lsn + 10**6, "2")):
        value = f'{{"status":"{status}","id":"{one.xid + 999}:{lsn}","event_count":{count}}}'
        producer.send(stream.names.topic, value=value.encode(), partition=0)
    producer.close()
    with pytest.raises(StreamStopped, match=f"rows of transaction {one.xid + 999} are in none of its partitions"):
        collect(source, lambda _: False)
