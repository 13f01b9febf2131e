"""Events as messages of FIFO queues of Amazon SQS: the group is the key, the deduplication id the event's id.

A batch may fail in part, and later messages of a group may be taken although an earlier one was not: so a request
never holds two messages of one group, and what failed is sent again before anything behind it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from cdc.outbox.events import OutboxEvent
from cdc.outbox.sinks import Outcome, SinkUnreachable, first_of_lines, without_line
from contexts.errors import ConfigError

#: What SQS takes in one request, messages and bytes; body and attributes count.
BATCH = 10
MAX_BYTES = 256 << 10
_TRIES = 5
_MAX_ATTRIBUTES = 10
_PLAIN_ID = re.compile(r"[A-Za-z0-9!-/:-@\[-`{-~]{1,128}")
#: The characters that SQS takes in a body (those of XML 1.0).
_BODY = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
_Entry = dict[str, Any]


class SqsQueues:
    """Publishes to the queue of each topic.

    :param queue: name or URL of a queue, with ``{topic}`` where the topic goes.
    :raises ConfigError: the extra is not installed, or boto3 finds no region.
    """

    def __init__(self, queue: str, region: str = "", endpoint: str = "") -> None:
        try:
            import boto3
            from botocore.exceptions import BotoCoreError
        except ImportError as error:
            raise ConfigError(
                'outbox_sink.kind = "sqs" needs an extra', next_step="pip install 'carveout[sqs]'"
            ) from error
        self._queue = queue
        self._urls: dict[str, str] = {}
        try:
            self._client: Any = boto3.client("sqs", region_name=region or None, endpoint_url=endpoint or None)
        except BotoCoreError as error:
            raise ConfigError(f"outbox_sink (SQS): {error}", next_step="set region, or AWS_DEFAULT_REGION") from error

    def publish(self, events: Mapping[int, OutboxEvent]) -> Outcome:
        """Publish in waves of messages that have nothing before them."""
        left, refused, delivered = dict(events), dict[int, str](), list[int]()
        for number, event in events.items():
            if number in left and (reason := _impossible(event)):
                refused[number] = reason
                left = without_line(left, number)
        while left:
            wave = first_of_lines(left)
            for number, reason in self._send_all(wave).items():
                refused[number] = reason
                left = without_line(left, number)
            delivered += [number for number in wave if number not in refused]
            left = {number: event for number, event in left.items() if number not in wave}
        return Outcome(delivered, refused)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _send_all(self, events: Mapping[int, OutboxEvent]) -> dict[int, str]:
        """Send events of different groups; why those that are refused are."""
        refused: dict[int, str] = {}
        by_topic: dict[str, dict[int, OutboxEvent]] = {}
        for number, event in events.items():
            by_topic.setdefault(event.topic, {})[number] = event
        for topic, of_topic in by_topic.items():
            for request in _requests(of_topic):
                refused |= self._send(topic, request)
        return refused

    def _send(self, topic: str, entries: list[_Entry]) -> dict[int, str]:
        """One request, with what failed of it again until it is taken; why those that never will be are refused."""
        from botocore.exceptions import BotoCoreError, ClientError

        refused: dict[int, str] = {}
        failed: list[dict[str, Any]] = []
        for _ in range(_TRIES):
            try:
                answer = self._client.send_message_batch(QueueUrl=self._url(topic), Entries=entries)
            except self._client.exceptions.QueueDoesNotExist:
                self._urls.pop(topic, None)
                return {int(entry["Id"]): f"SQS: there is no queue for {topic}" for entry in entries}
            except (BotoCoreError, ClientError) as error:
                raise _unreachable(topic, str(error)) from error
            failed = answer.get("Failed", [])
            refused |= {int(one["Id"]): f"SQS: {_said(one)}" for one in failed if one["SenderFault"]}
            again = {one["Id"] for one in failed if not one["SenderFault"]}
            entries = [entry for entry in entries if entry["Id"] in again]
            if not entries:
                return refused
        raise _unreachable(topic, "; ".join(sorted(map(_said, failed))))

    def _url(self, topic: str) -> str:
        if topic not in self._urls:
            # A queue's name has no dots but the one of its ending.
            name = self._queue.replace("{topic}", topic.replace(".", "-"))
            is_url = name.startswith(("http://", "https://"))
            self._urls[topic] = name if is_url else self._client.get_queue_url(QueueName=name)["QueueUrl"]
        return self._urls[topic]


def _said(failed: Mapping[str, Any]) -> str:
    return f"{failed['Code']}: {failed.get('Message', '')}"


def _requests(events: Mapping[int, OutboxEvent]) -> list[list[_Entry]]:
    """The entries of requests that keep to SQS's limits."""
    requests: list[list[_Entry]] = [[]]
    weight = 0
    for number, event in events.items():
        size = _bytes(event)
        if len(requests[-1]) == BATCH or weight + size > MAX_BYTES:
            requests.append([])
            weight = 0
        requests[-1].append(_entry(number, event))
        weight += size
    return requests


def _entry(number: int, event: OutboxEvent) -> _Entry:
    return {
        "Id": str(number),
        "MessageBody": _body(event)[0],
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": text} for name, text in _attributes(event).items()
        },
        # An event without key has no order to keep: it is a group of its own.
        "MessageGroupId": _plain(event.event_id if event.key is None else event.key),
        "MessageDeduplicationId": _plain(event.event_id),
    }


def _body(event: OutboxEvent) -> tuple[str, bool]:
    """The body, and whether it is base64 because the payload is no text that SQS takes."""
    payload = event.payload or b""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = ""
    return (text, False) if _BODY.fullmatch(text) else (base64.b64encode(payload).decode(), True)


def _attributes(event: OutboxEvent) -> dict[str, str]:
    given = {name: text for name, text in event.headers if text}
    if event.key:
        given["key"] = event.key
    return {**given, "contentEncoding": "base64"} if _body(event)[1] else given


def _bytes(event: OutboxEvent) -> int:
    attributes = sum(len(name) + len("String") + len(text.encode()) for name, text in _attributes(event).items())
    return len(_body(event)[0].encode()) + attributes


def _impossible(event: OutboxEvent) -> str | None:
    """Why no queue can take the event, or None."""
    if not event.payload:
        return "SQS: it takes no message without a body"
    if (size := _bytes(event)) > MAX_BYTES:
        return f"SQS: {size} bytes with its attributes, and a message has at most {MAX_BYTES} (256 KiB)"
    if (count := len(_attributes(event))) > _MAX_ATTRIBUTES:
        return f"SQS: {count} headers, and a message has at most {_MAX_ATTRIBUTES}"
    return None


def _plain(text: str) -> str:
    """As it is where SQS takes it, otherwise its hash."""
    return text if _PLAIN_ID.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()


def _unreachable(topic: str, why: str) -> SinkUnreachable:
    return SinkUnreachable(
        f"outbox sink (SQS, {topic}): {why}",
        unchanged="what was not acknowledged waits, in its order",
        next_step="look at the queue, its rights, and [outbox_sink]",
    )
