"""Connect dies between the last row that it sent of a COPY and the END: it comes again whole, or the stream stops.

Rows of one page share their position in the log, and Debezium 3.6 goes on behind it. What such a crash leaves in
Connect and in the topic is made here by hand, since no test could kill it at that instant; what follows is real.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cdc.kafka import place
from cdc.source import slots
from contexts.errors import StreamStopped
from tests.kafka.conftest import Stream, until_idle
from tests.kafka.test_end_to_end import now
from tests.kafka.test_source import ids, write
from tests.waiting import wait_until

SENT, ROWS = 10, 40


def records(stream: Stream) -> list[Any]:
    """Everything in the topic."""
    from kafka import KafkaConsumer, TopicPartition

    consumer: Any = KafkaConsumer(bootstrap_servers=stream.stack.bootstrap, isolation_level="read_committed")
    partition = TopicPartition(stream.names.topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end, found = consumer.end_offsets([partition])[partition], []
    while consumer.position(partition) < end:
        found += consumer.poll(timeout_ms=200).get(partition, [])
    consumer.close()
    return found


def copy_in_one_page(stream: Stream) -> tuple[int, int]:
    """Commit a COPY while the connector is stopped; its xid, and the one position of its rows."""
    with stream.owner() as conn:
        slots.create_slot(conn, "peek", publication=stream.names.publication)
        with conn.cursor().copy("COPY app.t FROM STDIN") as copy:
            for n in range(2, ROWS + 2):
                copy.write_row((n, "x"))
        rows = conn.execute(
            "SELECT lsn - '0/0'::pg_lsn, xid::text::int8 FROM pg_logical_slot_peek_binary_changes('peek', NULL, NULL,"
            " 'proto_version', '1', 'publication_names', %s) WHERE get_byte(data, 0) = ascii('I')",
            (stream.names.publication,),
        ).fetchall()
        slots.drop_slot(conn, "peek")
    assert len(rows) == ROWS
    assert len(set(rows)) == 1, "not one page"
    return int(rows[0][1]), int(rows[0][0])


def send_some(stream: Stream, xid: int, lsn: int) -> None:
    """BEGIN and the first rows, as the connector would have sent them before it died."""
    from kafka import KafkaProducer

    old = records(stream)
    begin = next(r for r in old if b'"status":"BEGIN"' in r.value)
    row = next(r for r in old if b'"op":"c"' in r.value)
    producer: Any = KafkaProducer(bootstrap_servers=stream.stack.bootstrap)

    def send(record: Any, change: Callable[[dict[str, Any]], None]) -> None:
        value = json.loads(record.value)
        change(value["payload"])
        text = json.dumps(value, separators=(",", ":")).encode()
        producer.send(stream.names.topic, key=record.key, value=text, headers=record.headers, partition=0)

    def numbered(n: int) -> Callable[[dict[str, Any]], None]:
        def change(payload: dict[str, Any]) -> None:
            payload["after"]["id"] = n + 1
            payload["source"] |= {"txId": xid, "lsn": lsn, "sequence": f'["{lsn - 1}","{lsn}"]'}
            payload["transaction"] |= {"id": f"{xid}:{lsn}", "total_order": n, "data_collection_order": n}

        return change

    send(begin, lambda payload: payload.update(id=f"{xid}:{lsn}"))
    for n in range(1, SENT + 1):
        send(row, numbered(n))
    producer.flush()
    producer.close()


def set_place_inside(stream: Stream, xid: int, lsn: int) -> None:
    """What Connect has stored with the last row that was sent."""
    [one] = place.offsets(stream.api, stream.names)
    inside = {
        **{key: value for key, value in one["offset"].items() if not key.startswith("transaction_")},
        "lsn": lsn, "lsn_proc": lsn, "messageType": "INSERT", "txId": xid,
        "transaction_id": f"{xid}:{lsn}", "transaction_data_collection_order_app.t": SENT,
    }  # fmt: skip
    body = {"offsets": [{"partition": one["partition"], "offset": inside}]}
    stream.api.call("PATCH", f"/connectors/{stream.names.connector}/offsets", body)


@pytest.mark.parametrize("is_copied", [True, False])
def test_the_rest_of_a_page_is_not_lost_in_silence(new_stream: Callable[[int], Stream], is_copied: bool) -> None:
    """The server has been told that all is safe: only a copy of its slot still has the transaction."""
    stream = new_stream(16)
    with stream.owner() as conn:
        conn.execute("CREATE TABLE app.t (id int PRIMARY KEY, v text)")
    stream.prepare()
    stream.connector()
    write(stream, 1, 1)
    source = stream.source()
    assert ids(until_idle(source, now(stream))) == [1]
    stream.stop()
    if is_copied:
        source.acknowledge(now(stream))
    xid, lsn = copy_in_one_page(stream)
    send_some(stream, xid, lsn)
    set_place_inside(stream, xid, lsn)
    stream.resume()
    write(stream, ROWS + 2, ROWS + 2)
    behind = now(stream)
    with stream.database.connect("test") as conn:
        told = "SELECT confirmed_flush_lsn - '0/0' >= %s FROM pg_replication_slots WHERE slot_name = %s"
        wait_until(lambda: conn.execute(told, [behind, stream.names.slot]).fetchone() == (True,))
    if is_copied:
        assert ids(until_idle(source, now(stream))) == list(range(2, ROWS + 3))
    else:
        with pytest.raises(StreamStopped, match="does not have that transaction any more"):
            until_idle(source, now(stream))
    [first, *_] = [json.loads(r.value)["payload"] for r in records(stream) if f'"id":"{xid}:'.encode() in r.value
                   and b'"status":"END"' in r.value]  # fmt: skip
    assert first["event_count"] < ROWS, "the connector left nothing out: nothing was tested"
