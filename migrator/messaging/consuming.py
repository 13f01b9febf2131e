"""Loops that take messages from Kafka or SQS to an inbox, and acknowledge only what is settled there.

A message that fails is tried again where it stands, so nothing overtakes it; after its tries it is parked.
"""

from __future__ import annotations

import base64
import threading
from typing import Any

from migrator.messaging.inbox import Handled, Handler, Inbox, Message

_PAUSE_S = (0.1, 30.0)


def settle(inbox: Inbox, message: Message, handler: Handler, stop: threading.Event) -> bool:
    """Deliver a message until it is handled or parked; False where ``stop`` came first."""
    pause_s = _PAUSE_S[0]
    while inbox.handle(message, handler) is Handled.FAILED:
        if stop.wait(pause_s):
            return False
        pause_s = min(_PAUSE_S[1], pause_s * 2)
    return True


def consume_kafka(consumer: Any, inbox: Inbox, handler: Handler, stop: threading.Event) -> None:
    """Handle what a consumer of kafka-python is subscribed or assigned to, until ``stop`` is set.

    :param consumer: made with ``enable_auto_commit=False``, ``isolation_level="read_committed"`` and a group.
    """
    from kafka import OffsetAndMetadata

    while not stop.is_set():
        for partition, records in consumer.poll(timeout_ms=200).items():
            for record in records:
                if not settle(inbox, message_of(record), handler, stop):
                    return
            consumer.commit({partition: OffsetAndMetadata(records[-1].offset + 1, "")})


def message_of(record: Any) -> Message:
    """The message of a Kafka record; one without header ``id`` is known by its place."""
    headers = {name: value.decode() for name, value in record.headers if value is not None}
    key = None if record.key is None else record.key.decode()
    place = f"{record.topic}/{record.partition}/{record.offset}"
    return Message(headers.get("id", place), record.topic, key, record.value, headers)


def consume_sqs(client: Any, queue_url: str, inbox: Inbox, handler: Handler, stop: threading.Event) -> None:
    """Handle the messages of an SQS queue, until ``stop`` is set.

    :param client: boto3's for ``sqs``. The queue's visibility timeout is longer than ten messages take.
    """
    while not stop.is_set():
        answer = client.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=1
        )
        for received in answer.get("Messages", ()):
            if not settle(inbox, message_of_sqs(received, queue_url), handler, stop):
                return
            client.delete_message(QueueUrl=queue_url, ReceiptHandle=received["ReceiptHandle"])


def message_of_sqs(received: dict[str, Any], queue_url: str) -> Message:
    """The message that ``receive_message`` has brought; its topic is the queue's name."""
    headers = {name: one["StringValue"] for name, one in received.get("MessageAttributes", {}).items()}
    key, encoding = headers.pop("key", None), headers.pop("contentEncoding", "")
    body = received["Body"].encode()
    payload = base64.b64decode(body) if encoding == "base64" else body
    return Message(
        headers.get("id", received["MessageId"]), queue_url.rpartition("/")[2], key, payload, headers
    )  # fmt: skip
