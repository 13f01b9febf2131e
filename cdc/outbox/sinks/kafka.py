"""Events as Kafka records, each batch in one transaction.

So a batch is there wholly or not at all for readers of committed records, a record that fails cannot be overtaken by
the next one of its key, and a publisher that was thought dead is fenced by the one that follows it.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any

from cdc.outbox.events import OutboxEvent
from cdc.outbox.sinks import Outcome, SinkUnreachable, without_line
from contexts.errors import ConfigError
from contexts.loader import expand, expand_texts
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
    options = expand_texts(client, where=f"{where}.client")
    address = expand(bootstrap, where=f"{where}.bootstrap")
    return KafkaTopics(address, f"carveout-outbox-{context.name}", options, partitions=declared.partitions)


class KafkaTopics:
    """Publishes as one transactional producer, made when it is first needed.

    :param identity: the transactional id: of all producers that share it, only the newest one can publish.
    :param options: further options of kafka-python (security).
    :param partitions: with which missing topics are made; 0: they are not.
    """

    def __init__(self, bootstrap: str, identity: str, options: Mapping[str, Any], *, partitions: int = 0) -> None:
        self._bootstrap = bootstrap
        self._identity = identity
        self._options = options
        self._partitions = partitions
        self._topics: set[str] = set()
        self._producer: Any = None

    def publish(self, events: Mapping[int, OutboxEvent]) -> Outcome:
        """Publish a batch; where a record is refused, the batch goes without its line."""
        left, refused = dict(events), dict[int, str]()
        try:
            self._look_for({event.topic for event in events.values()})
            for number, event in events.items():
                if number in left and (reason := self._impossible(event)):
                    refused[number] = reason
                    left = without_line(left, number)
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
            with suppress(Exception):  # it waits for records that were refused, and then says that they are not there
                producer.close(timeout=1)

    def _attempt(self, events: Mapping[int, OutboxEvent]) -> tuple[int, str] | None:
        """One transaction of all events; where one is refused, nothing of it stands and its reason is returned."""
        producer = self._connected()
        producer.begin_transaction()
        failed: dict[int, Exception] = {}
        sent: dict[int, Any] = {}
        for number, event in events.items():
            try:
                sent[number] = _send(producer, event)
            except _refusals() as refusal:
                failed[number] = refusal
                break
        failed |= {number: error for number, future in sent.items() if (error := _error_of(future))}
        if not failed:
            producer.commit_transaction()
            return None
        # What is refused makes others fail with it, and the producer of no more use.
        for number, error in failed.items():
            if isinstance(error, _refusals()):
                self.close()
                return number, f"Kafka: {type(error).__name__}: {error}"
        raise next(iter(failed.values()))

    def _look_for(self, wanted: set[str]) -> None:
        """Learn of topics that were not there before; make those that are missing, where that is asked for."""
        if wanted <= self._topics:
            return
        from kafka.admin import KafkaAdminClient
        from kafka.errors import TopicAlreadyExistsError

        with closing(KafkaAdminClient(bootstrap_servers=self._bootstrap, **self._options)) as admin:
            self._topics = set(admin.list_topics())
            if self._partitions and (missing := {name for name in wanted - self._topics if _is_name(name)}):
                configs = {"num_partitions": self._partitions, "replication_factor": -1}
                with suppress(TopicAlreadyExistsError):
                    admin.create_topics(dict.fromkeys(missing, configs), wait_for_metadata=True)
                self._topics |= missing

    def _impossible(self, event: OutboxEvent) -> str | None:
        """Why the brokers cannot take the event, or None."""
        if not _is_name(event.topic):
            return f"Kafka: {event.topic!r} is no name of a topic"
        if event.topic not in self._topics:
            return f"Kafka: there is no topic {event.topic} (partitions in [outbox_sink] has missing ones made)"
        if event.key is None and event.payload is None:
            return "Kafka: it has neither key nor payload"
        return None

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


def _error_of(future: Any) -> Exception | None:
    try:
        future.get(timeout=_CONFIRMED_S)
    except Exception as error:  # the client's errors have no common base
        return error
    return None


def _send(producer: Any, event: OutboxEvent) -> Any:
    return producer.send(
        event.topic,
        key=None if event.key is None else event.key.encode(),
        value=event.payload,
        # The client sends no header without a value.
        headers=[(name, text.encode()) for name, text in event.headers if text is not None],
        timestamp_ms=max(0, math.floor(event.at.timestamp() * 1000)),
    )


def _is_name(topic: str) -> bool:
    return _TOPIC.fullmatch(topic) is not None and topic not in {".", ".."}


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
