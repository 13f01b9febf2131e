"""How a stream does on its way: its connector, how much of the topic is not applied, how much log its slot keeps.

Connect, Kafka and the open side are asked one by one, each for a short time: one that is away hides nothing of the
others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from cdc.kafka import connect, topic
from cdc.source.slots import slot_status
from cdc.state import position
from contexts.errors import CarveoutError

if TYPE_CHECKING:
    from cdc.kafka.link import Link

T = TypeVar("T")
_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Part:
    """One partition of the rows."""

    partition: int
    #: The offset up to which all rows are applied, as the position row has it.
    applied_to: int
    lag_records: int


@dataclass(frozen=True, slots=True)
class Health:
    """One look; None where it was not told."""

    connector: str
    #: Connect's states: ``RUNNING``, ``PAUSED``, ``STOPPED``, ``FAILED``, ``UNASSIGNED``; None: there is no connector.
    state: str | None = None
    tasks: tuple[str, ...] = ()
    #: What its task failed with, without values.
    error: str = ""
    #: Records that are not applied, with Kafka's own marks of transactions; of all partitions, where there are several.
    lag_records: int | None = None
    #: The same in bytes, from the mean size of a record in each partition.
    lag_bytes_estimated: int | None = None
    #: Size of the topics on one broker each.
    topic_bytes: int | None = None
    #: The partitions of the rows, where there are several.
    partitions: tuple[Part, ...] = ()
    #: Log that the open side keeps until the connector has confirmed it.
    slot_lag_bytes: int | None = None
    #: Who did not answer, and why.
    unanswered: tuple[str, ...] = ()

    @property
    def has_failed(self) -> bool:
        """Whether the connector or its task has failed."""
        return "FAILED" in (self.state, *self.tasks)

    @property
    def is_running(self) -> bool:
        """Whether the connector and its one task run."""
        return self.state == "RUNNING" and self.tasks == ("RUNNING",)

    def to_json(self) -> dict[str, Any]:
        """As ``status --json`` and the worker's report hold it."""
        lists = {
            "tasks": list(self.tasks),
            "partitions": [asdict(one) for one in self.partitions],
            "unanswered": list(self.unanswered),
        }
        return {**asdict(self), **lists, "running": self.is_running, "failed": self.has_failed}


def look(link: Link) -> Health:
    """How the stream does now; changes nothing and raises nothing that is about one of those asked."""
    unanswered: list[str] = []

    def ask(read: Callable[[Link], dict[str, Any]]) -> dict[str, Any]:
        try:
            return read(link)
        except (CarveoutError, psycopg.Error) as error:
            unanswered.append(" ".join(str(error).split()))
            return {}

    told = {**ask(_of_connect), **ask(_of_topic), **ask(_of_slot)}
    return Health(link.names.connector, **told, unanswered=tuple(unanswered))


def _of_connect(link: Link) -> dict[str, Any]:
    found = connect.status(replace(link.cluster.connect, timeout_s=_TIMEOUT_S), link.names)
    return {"state": found.connector, "tasks": found.tasks, "error": found.trace} if found else {}


def _of_topic(link: Link) -> dict[str, Any]:
    with link.closed.connect("connector") as conn:
        at = position.read(conn, link.stream)
    cluster = link.cluster
    options = {**cluster.options, "bootstrap_timeout_ms": int(_TIMEOUT_S * 1000)}
    sizes = [
        size for name in cluster.topics(link.stream) for size in topic.sizes(cluster.bootstrap, name, options=options)
    ]
    held = None if any(size.bytes is None for size in sizes) else sum(size.bytes or 0 for size in sizes)
    if at is None:
        return {"topic_bytes": held}
    applied = (at.ordinal, *(at.parts or (0,) * (len(sizes) - 1)))
    lags = [max(0, size.end - offset) for size, offset in zip(sizes, applied, strict=False)]
    estimated = None if held is None else round(sum(map(_lag_bytes, sizes, lags)))
    parts = tuple(Part(n, *pair) for n, pair in enumerate(zip(applied[1:], lags[1:], strict=False)))
    return {"lag_records": sum(lags), "lag_bytes_estimated": estimated, "topic_bytes": held, "partitions": parts}


def _lag_bytes(size: topic.Size, lag: int) -> float:
    return lag * (size.bytes or 0) / max(1, size.end - size.first)


def _of_slot(link: Link) -> dict[str, Any]:
    with link.open_.connect("connector") as conn:
        return {"slot_lag_bytes": slot_status(conn, link.names.slot).lag_bytes}
