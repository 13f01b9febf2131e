"""FIFO queues of SQS, as moto's server has them: order by key, duplicates, partial failures, limits."""

from __future__ import annotations

import base64
import datetime as dt
import logging
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import psycopg
import pytest
from moto.server import ThreadedMotoServer

from cdc.outbox.events import OutboxEvent
from cdc.outbox.sinks import SinkUnreachable
from cdc.outbox.sinks.sqs import MAX_BYTES, SqsQueues
from contexts.databases import Databases
from migrator.messaging.consuming import consume_sqs, message_of_sqs
from migrator.messaging.inbox import Inbox, Message
from migrator.messaging.outbox import statements

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
TOPIC = "outbox.event.order"
REGION = "eu-west-1"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patched:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patched.setenv(name, "test")
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def queue(endpoint: str) -> Iterator[tuple[Any, str]]:
    """A client and the URL of the topic's queue, which is empty."""
    client = boto3.client("sqs", region_name=REGION, endpoint_url=endpoint)
    url = client.create_queue(QueueName="outbox-event-order.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    yield client, url
    client.delete_queue(QueueUrl=url)
    client.close()


@pytest.fixture
def sink(endpoint: str, queue: tuple[Any, str]) -> Iterator[SqsQueues]:
    made = SqsQueues("{topic}.fifo", REGION, endpoint)
    yield made
    made.close()


def event(number: int, key: str | None, payload: bytes = b"{}", topic: str = TOPIC, **headers: str) -> OutboxEvent:
    name = f"e{number}"
    return OutboxEvent(topic, key, name, (("id", name), ("eventType", "made"), *headers.items()), payload, AT)


def received(queue: tuple[Any, str]) -> list[Message]:
    """Everything that is there, in the order in which it is given out."""
    client, url = queue
    found: list[Message] = []
    while messages := client.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    ).get("Messages"):  # fmt: skip
        for one in messages:
            found.append(message_of_sqs(one, url))
            client.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
    return found


class Failing:
    """A client between the sink and the server, which fails some messages before they reach it."""

    def __init__(self, client: Any, times: dict[str, int], *, sender_fault: bool = False) -> None:
        self._client, self._times, self._sender_fault = client, times, sender_fault
        self.requests: list[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        self.requests.append([entry["MessageDeduplicationId"] for entry in Entries])
        passed, failed = list[dict[str, Any]](), list[dict[str, Any]]()
        for entry in Entries:
            left = self._times.get(entry["MessageDeduplicationId"], 0)
            self._times[entry["MessageDeduplicationId"]] = left - 1
            (failed if left > 0 else passed).append(entry)
        answer = self._client.send_message_batch(QueueUrl=QueueUrl, Entries=passed) if passed else {"Successful": []}
        found = [{"Id": e["Id"], "SenderFault": self._sender_fault, "Code": "InternalError"} for e in failed]
        return {**answer, "Failed": [*answer.get("Failed", []), *found]}


def test_messages_carry_what_the_event_says(sink: SqsQueues, queue: tuple[Any, str]) -> None:
    sent = {1: event(1, "7", '{"a": "é"}'.encode(), traceId="t"), 2: event(2, None, b"\x00\xff"), 3: event(3, "ü x")}
    assert sorted(sink.publish(sent).delivered) == [1, 2, 3]
    first, second, third = sorted(received(queue), key=lambda one: one.id)
    headers = {"id": "e1", "eventType": "made", "traceId": "t"}
    assert first == Message("e1", "outbox-event-order.fifo", "7", '{"a": "é"}'.encode(), headers)
    assert (second.key, second.payload) == (None, b"\x00\xff")
    assert third.key == "ü x"


def test_events_of_a_key_keep_their_order_and_come_once(sink: SqsQueues, queue: tuple[Any, str]) -> None:
    sent = {number: event(number, f"k{number % 3}") for number in range(40)}
    for _ in range(2):  # the second time as after a crash
        assert sorted(sink.publish(sent).delivered) == list(range(40))
    found = received(queue)
    assert len(found) == 40
    for key in range(3):
        assert [one.id for one in found if one.key == f"k{key}"] == [f"e{n}" for n in range(40) if n % 3 == key]


def test_what_fails_in_part_is_sent_again_before_what_is_behind_it(sink: SqsQueues, queue: tuple[Any, str]) -> None:
    failing = sink._client = Failing(queue[0], {"e0": 2, "e4": 1})
    sent = {number: event(number, "even" if number % 2 == 0 else f"odd{number}") for number in range(8)}
    assert sorted(sink.publish(sent).delivered) == list(range(8))
    assert [one.id for one in received(queue) if one.key == "even"] == ["e0", "e2", "e4", "e6"]
    assert failing.requests == [["e0", "e1", "e3", "e5", "e7"], ["e0"], ["e0"], ["e2"], ["e4"], ["e4"], ["e6"]]


def test_what_goes_on_failing_leaves_the_rest_waiting(sink: SqsQueues, queue: tuple[Any, str]) -> None:
    sink._client = Failing(queue[0], {"e0": 100})
    with pytest.raises(SinkUnreachable, match="InternalError"):
        sink.publish({0: event(0, "k"), 1: event(1, "k")})
    assert received(queue) == []


def test_what_is_refused_holds_only_its_key(sink: SqsQueues, queue: tuple[Any, str]) -> None:
    sink._client = Failing(queue[0], {"e2": 100}, sender_fault=True)
    large = base64.b64encode(b"x" * MAX_BYTES)
    sent = {
        0: event(0, "large", large), 1: event(1, "large"), 2: event(2, "odd"), 3: event(3, "odd"), 4: event(4, "good"),
        5: event(5, "empty", b""), 6: event(6, "many", b"x", **{f"h{n}": "x" for n in range(9)}),
    }  # fmt: skip
    outcome = sink.publish(sent)
    assert list(outcome.delivered) == [4]
    assert outcome.refused.keys() == {0, 2, 5, 6}
    assert "256 KiB" in outcome.refused[0]
    assert "without a body" in outcome.refused[5]
    assert "12 headers" in outcome.refused[6]
    assert [one.id for one in received(queue)] == ["e4"]


def test_requests_keep_to_the_limits(sink: SqsQueues, queue: tuple[Any, str]) -> None:
    failing = sink._client = Failing(queue[0], {})
    sent = {number: event(number, f"k{number}", b"x" * 100_000) for number in range(5)}
    sent |= {number: event(number, f"k{number}") for number in range(5, 30)}
    assert sorted(sink.publish(sent).delivered) == list(range(30))
    assert max(map(len, failing.requests)) == 10
    assert [len(one) for one in failing.requests[:2]] == [2, 2]
    assert len(received(queue)) == 30


def test_a_queue_that_is_missing_holds_only_its_events(sink: SqsQueues, queue: tuple[Any, str]) -> None:
    outcome = sink.publish({1: event(1, "k", topic="nowhere"), 2: event(2, "k")})
    assert (list(outcome.delivered), outcome.refused) == ([2], {1: "SQS: there is no queue for nowhere"})
    assert [one.id for one in received(queue)] == ["e2"]


def test_an_inbox_handles_a_queue_once_and_in_order(sink: SqsQueues, queue: tuple[Any, str], pair: Databases) -> None:
    with pair.service.connect("test") as conn:
        conn.execute(statements("public")["inbox"].encode())
        conn.execute("CREATE TABLE public.given (number bigint GENERATED ALWAYS AS IDENTITY, id text)")
    stop, fails = threading.Event(), [True, True]

    def give(session: psycopg.Connection, message: Message) -> None:
        session.execute("INSERT INTO given (id) VALUES (%s)", (message.id,))
        if message.id == "e3" and fails and fails.pop():
            raise ValueError("not yet")
        if message.id == "e19":
            stop.set()

    sink.publish({number: event(number, "k") for number in range(20)})
    inbox = Inbox(lambda: psycopg.connect(pair.service.url), "public", "points")
    consume_sqs(*queue, inbox, give, stop)
    with pair.service.connect("test") as conn:
        rows = conn.execute("SELECT id FROM public.given ORDER BY number").fetchall()
    assert rows == [(f"e{number}",) for number in range(20)]
