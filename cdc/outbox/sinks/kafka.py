"""Events as Kafka records, each batch in one transaction.

So a batch is there wholly or not at all for readers of committed records, a record that fails cannot be overtaken by
the next one of its key, and a publisher that was thought dead is fenced by the one that follows it.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Mapping
from typing import Any

from cdc.outbox.events import OutboxEvent
from cdc.outbox.sinks import Outcome, SinkUnreachable, without_line
from contexts.errors import ConfigError
from contexts.loader import expand
from contexts.model import Context
from contexts.outbox import KafkaSink

#: Larger records are refused by the client already; the topic's own limit may be lower.
MAX_BYTES = 64 << 20
_CONFIRMED_S = 30.0
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def open_kafka(context: Context, declared: KafkaSink, where: str) -> KafkaTopics:
    """The sink of a context.

    :raises ConfigError: no address is given, a ``${VAR}`` is missing, or the extra is not installed.
    """
    if importlib.util.find_spec("kafka") is None:
        raise ConfigError('outbox_sink.kind = "kafka" needs an extra', next_step="pip install 'carveout[kafka]'")
    bootstrap = declared.bootstrap or (context.kafka.bootstrap if context.kafka else "")
    if not bootstrap:
        raise ConfigError(f"{where}.bootstrap: no address of a broker", next_step="give it there or in [kafka]")
    client = declared.client or (context.kafka.client if context.kafka else {})
    options = {
        key: expand(value, where=f"{where}.client.{key}") if isinstance(value, str) else value
        for key, value in client.items()
    }
    return KafkaTopics(expand(bootstrap, where=f"{where}.bootstrap"), f"carveout-outbox-{context.name}", options)


class KafkaTopics:
    """Publishes as one transactional producer, made when it is first needed.

    :param identity: the transactional id: of all producers that share it, only the newest one can publish.
    :param options: further options of kafka-python (security).
    """

    def __init__(self, bootstrap: str, identity: str, options: Mapping[str, Any]) -> None:
        self._bootstrap = bootstrap
        self._identity = identity
        self._options = options
        self._producer: Any = None

    def publish(self, events: Mapping[int, OutboxEvent]) -> Outcome:
        """Publish a batch; where a record is refused, the batch goes without its line."""
        left, refused = dict(events), dict[int, str]()
        for number, event in events.items():
            if number in left and (reason := _impossible(event)):
                refused[number] = reason
                left = without_line(left, number)
        try:
            while left and (found := self._attempt(left)):
                number, refused[number] = found
                left = without_line(left, number)
        except Exception as error:  # the client's errors have no common base
            self.close()
            raise _unreachable(self._bootstrap, error) from error
        return Outcome(list(left), refused)

    def close(self) -> None:
        """End the producer; an open transaction is aborted by the brokers."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=1)

    def _attempt(self, events: Mapping[int, OutboxEvent]) -> tuple[int, str] | None:
        """One transaction of all events; where one is refused, nothing of it stands and its reason is returned."""
        producer = self._connected()
        producer.begin_transaction()
        sent: dict[int, Any] = {}
        for number, event in events.items():
            try:
                sent[number] = _send(producer, event)
            except _refusals() as error:
                return self._abort(number, error)
        producer.flush(timeout=_CONFIRMED_S)
        for number, future in sent.items():
            try:
                future.get(timeout=_CONFIRMED_S)
            except _refusals() as error:
                return self._abort(number, error)
        producer.commit_transaction()
        return None

    def _abort(self, number: int, error: Exception) -> tuple[int, str]:
        self._producer.abort_transaction()
        return number, f"Kafka: {type(error).__name__}: {error}"

    def _connected(self) -> Any:
        if self._producer is None:
            from kafka import KafkaProducer

            self._producer = KafkaProducer(
                bootstrap_servers=self._bootstrap, client_id="carveout-outbox", transactional_id=self._identity,
                acks="all", compression_type="lz4", max_request_size=MAX_BYTES, linger_ms=5, max_block_ms=15_000,
                reconnect_backoff_max_ms=1000, **self._options,
            )  # fmt: skip
            self._producer.init_transactions()
        return self._producer


def _send(producer: Any, event: OutboxEvent) -> Any:
    return producer.send(
        event.topic,
        key=None if event.key is None else event.key.encode(),
        value=event.payload,
        # The client sends no header without a value.
        headers=[(name, text.encode()) for name, text in event.headers if text is not None],
        timestamp_ms=max(0, math.floor(event.at.timestamp() * 1000)),
    )


def _impossible(event: OutboxEvent) -> str | None:
    """Why no Kafka can take the event, or None."""
    if not _TOPIC.fullmatch(event.topic) or event.topic in {".", ".."}:
        return f"Kafka: {event.topic!r} is no name of a topic"
    if event.key is None and event.payload is None:
        return "Kafka: it has neither key nor payload"
    return None


def _refusals() -> tuple[type[Exception], ...]:
    """What would be answered however often a record is sent."""
    from kafka import errors

    return (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError, errors.InvalidTopicError)


def _unreachable(bootstrap: str, error: Exception) -> SinkUnreachable:
    return SinkUnreachable(
        f"outbox sink (Kafka, {bootstrap}): {type(error).__name__}: {error}",
        unchanged="the events wait, in their order",
        next_step="look at the brokers and at [outbox_sink]",
    )
