"""The one topic of a stream: one partition, so that Kafka keeps the commit order, and nothing is ever deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cdc.kafka.connect import MAX_RECORD_BYTES
from cdc.kafka.decoder.envelope import Envelopes, MessageEvent
from contexts.errors import AccessDenied, DatabaseUnreachable, RefusedError

#: What every topic of ours has; retention is ended by dropping the topic after the switch.
CONFIG: Mapping[str, str] = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "max.message.bytes": str(MAX_RECORD_BYTES),
}
Options = Mapping[str, Any]
_GONE_S = 30.0


class KafkaUnreachable(DatabaseUnreachable):
    """No broker answered."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much a partition holds."""

    #: Offsets of the oldest record and behind the newest committed one.
    first: int
    end: int
    #: On one broker; None where we may not ask the brokers for it.
    bytes: int | None


@contextmanager
def _admin(bootstrap: str, options: Options) -> Iterator[Any]:
    from kafka.admin import KafkaAdminClient

    with naming(bootstrap):
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, **options)
        try:
            yield admin
        finally:
            admin.close()


@contextmanager
def naming(bootstrap: str) -> Iterator[None]:
    """Turn what Kafka's client raises into :class:`KafkaUnreachable`, or ``AccessDenied`` where a right is missing."""
    from kafka.errors import AuthorizationError, IllegalStateError, KafkaError

    try:
        yield
    except IllegalStateError:
        raise  # a mistake of ours
    except AuthorizationError as error:
        raise AccessDenied(f"Kafka ({bootstrap}): {error}", unchanged="the position was not moved") from error
    except (KafkaError, OSError) as error:
        raise KafkaUnreachable(
            f"Kafka ({bootstrap}): {type(error).__name__}: {error}",
            unchanged="the position was not moved",
            next_step="carveout doctor",
        ) from error


def make(
    bootstrap: str, topic: str, *, partitions: int = 1, replication_factor: int = -1, options: Options | None = None
) -> None:
    """Make the topic, or check the one that is there.

    :param replication_factor: -1 takes the cluster's default.
    :param options: further options of kafka-python's clients (security).
    :raises RefusedError: a topic of that name could lose or reorder events.
    :raises KafkaUnreachable: no broker answered.
    """
    from kafka.errors import TopicAlreadyExistsError

    with _admin(bootstrap, options or {}) as admin:
        wanted = {"num_partitions": partitions, "replication_factor": replication_factor, "configs": dict(CONFIG)}
        try:
            admin.create_topics({topic: wanted}, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            _check(admin, topic, partitions)


def drop(bootstrap: str, topic: str, *, options: Options | None = None) -> None:
    """Delete the topic, if it is there."""
    from kafka.errors import UnknownTopicOrPartitionError

    with _admin(bootstrap, options or {}) as admin:
        try:
            admin.delete_topics([topic])
        except UnknownTopicOrPartitionError:
            return
        deadline = time.monotonic() + _GONE_S
        while topic in admin.list_topics() and time.monotonic() < deadline:
            time.sleep(0.05)  # the brokers take a moment to forget it, and tell nobody


def listed(bootstrap: str, *, options: Options | None = None) -> list[str]:
    """The names of all topics that may be seen."""
    with _admin(bootstrap, options or {}) as admin:
        return list(admin.list_topics())


def is_empty(bootstrap: str, topic: str, *, options: Options | None = None) -> bool:
    """Whether nothing was ever written to any of the topic's partitions."""
    return not any(written(bootstrap, topic, options=options))


def written(bootstrap: str, topic: str, *, options: Options | None = None) -> tuple[int, ...]:
    """The offset behind the last record in each partition, whether or not its Kafka transaction is committed."""
    from kafka import IsolationLevel
    from kafka.admin import OffsetSpec

    with _admin(bootstrap, options or {}) as admin:
        return _offsets(admin, topic, OffsetSpec.LATEST, IsolationLevel.READ_UNCOMMITTED)


def sizes(bootstrap: str, topic: str, *, options: Options | None = None) -> tuple[Size, ...]:
    """How much each partition of the topic holds.

    :raises KafkaUnreachable: no broker answered, or there is no such topic.
    """
    from kafka import IsolationLevel
    from kafka.admin import OffsetSpec

    with _admin(bootstrap, options or {}) as admin:
        firsts = _offsets(admin, topic, OffsetSpec.EARLIEST, IsolationLevel.READ_COMMITTED)
        ends = _offsets(admin, topic, OffsetSpec.LATEST, IsolationLevel.READ_COMMITTED)
        held = _bytes(admin, topic)
        return tuple(Size(first, end, held.get(n)) for n, (first, end) in enumerate(zip(firsts, ends, strict=True)))


def _offsets(admin: Any, topic: str, spec: Any, isolation: Any) -> tuple[int, ...]:
    from kafka import TopicPartition
    from kafka.errors import UnknownTopicOrPartitionError

    [described] = admin.describe_topics([topic])
    if not described["partitions"]:
        raise UnknownTopicOrPartitionError(topic)
    wanted = {TopicPartition(topic, number): spec for number in range(len(described["partitions"]))}
    found = admin.list_partition_offsets(wanted, isolation)
    return tuple(int(found[partition].offset) for partition in wanted)


def _bytes(admin: Any, topic: str) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for broker in admin.describe_log_dirs([topic]):
        for one in (one for folder in broker["log_dirs"] for found in folder["topics"] for one in found["partitions"]):
            number = one["partition_index"]
            sizes[number] = max(one["partition_size"], sizes.get(number, 0))
    return sizes


def holds_message(
    bootstrap: str, topic: str, content: bytes, timeout_s: float, *, options: Options | None = None
) -> bool:
    """Whether a logical message that holds ``content`` comes out of the topic in time."""
    from kafka import TopicPartition

    deadline = time.monotonic() + timeout_s
    with _reader(bootstrap, options or {}) as consumer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        while time.monotonic() < deadline:
            for record in consumer.poll(timeout_ms=200).get(partition, ()):
                if content in _contents(record.value):
                    return True
    return False


def _contents(value: bytes | None) -> bytes:
    match Envelopes().parse(value):
        case MessageEvent(content=content):
            return content
        case _:
            return b""


@contextmanager
def _reader(bootstrap: str, options: Options) -> Iterator[Any]:
    from kafka import KafkaConsumer

    with naming(bootstrap):
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, isolation_level="read_committed",
            **options,
        )  # fmt: skip
        try:
            yield consumer
        finally:
            consumer.close()


def check(bootstrap: str, topic: str, *, partitions: int = 1, options: Options | None = None) -> None:
    """Refuse a topic that could lose or reorder events.

    :raises RefusedError: another number of partitions, compacted, or with a retention that ends.
    """
    with _admin(bootstrap, options or {}) as admin:
        _check(admin, topic, partitions)


def _check(admin: Any, topic: str, partitions: int) -> None:
    from kafka.admin import ConfigResource

    [described] = admin.describe_topics([topic])
    if (count := len(described["partitions"])) != partitions:
        why = "only one keeps the commit order" if partitions == 1 else f"[kafka] says {partitions}"
        raise _refused(topic, f"it has {count} partitions, and {why}")
    given = admin.describe_configs([ConfigResource("topic", topic)], config_filter="all")["topic"][topic]
    for name in ("cleanup.policy", "retention.ms", "retention.bytes"):
        value = given[name]["value"] if isinstance(given[name], dict) else given[name]
        if value != CONFIG[name]:
            raise _refused(topic, f"{name}={value}: events would be deleted; set {name}={CONFIG[name]}")


def _refused(topic: str, why: str) -> RefusedError:
    return RefusedError(f"topic {topic}: {why}", unchanged="nothing was changed", next_step="alter or drop the topic")
