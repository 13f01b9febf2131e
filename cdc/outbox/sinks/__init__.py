"""Where events go. Each kind is imported when a context uses it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cdc.outbox.events import OutboxEvent
from contexts.errors import DatabaseUnreachable
from contexts.loader import expand
from contexts.model import Context
from contexts.outbox import KafkaSink, SqsSink


class SinkUnreachable(DatabaseUnreachable):
    """The sink did not take the events; they are tried again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of events, by number. Those in neither are still to be published."""

    delivered: Collection[int]
    #: Why the sink will never take it.
    refused: Mapping[int, str] = field(default_factory=dict)


class Sink(Protocol):
    """Takes events at least once, and those of one topic and key in their order."""

    def publish(self, events: Mapping[int, OutboxEvent]) -> Outcome:
        """Publish events in their order; an event is delivered only when those before it in its line are.

        :raises SinkUnreachable: nothing is known to be delivered.
        """

    def close(self) -> None:
        """Free its resources; safe to call twice."""


def open_sink(context: Context) -> Sink:
    """The sink that the context declares.

    :raises ConfigError: a ``${VAR}`` is missing, or an extra is not installed.
    :raises SinkUnreachable: it does not answer.
    """
    declared, where = context.outbox_sink, f"{context.folder / 'context.toml'}: outbox_sink"
    assert declared is not None  # the model requires it where there is an outbox
    if isinstance(declared, KafkaSink):
        from cdc.outbox.sinks.kafka import open_kafka

        return open_kafka(context, declared, where)
    if isinstance(declared, SqsSink):
        from cdc.outbox.sinks.sqs import SqsQueues

        return SqsQueues(declared.queue, declared.region, expand(declared.endpoint, where=f"{where}.endpoint"))
    from cdc.outbox.sinks.table import TableSink

    return TableSink(expand(declared.url, where=f"{where}.url"), declared.table)


def first_of_lines(events: Mapping[int, OutboxEvent]) -> dict[int, OutboxEvent]:
    """The events that nothing of their topic and key precedes."""
    taken: set[tuple[str, str]] = set()
    found: dict[int, OutboxEvent] = {}
    for number, event in events.items():
        if event.key is None or (event.topic, event.key) not in taken:
            found[number] = event
        if event.key is not None:
            taken.add((event.topic, event.key))
    return found


def without_line(events: Mapping[int, OutboxEvent], number: int) -> dict[int, OutboxEvent]:
    """What may go on where ``number`` is held: neither it nor what stands behind it in its line."""
    held = events[number]

    def goes_on(other: int, event: OutboxEvent) -> bool:
        is_behind = held.key is not None and (event.topic, event.key) == (held.topic, held.key) and other > number
        return other != number and not is_behind

    return {other: event for other, event in events.items() if goes_on(other, event)}
