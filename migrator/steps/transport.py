"""What carries a stream outside of the databases: topic and connector. Nothing where the source is embedded."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cdc.state.position import StreamId
from contexts.errors import RefusedError
from contexts.model import Side
from migrator.run import Run

if TYPE_CHECKING:
    from cdc.kafka.link import Link

#: How long a new connector may take until it has read what was written before it.
PROBE_S = 30.0


class Topic:
    """The topic of the first stream; its connector is started by the worker, from the slot that the copy makes."""

    name = "topic"

    def apply(self, run: Run) -> None:
        """Make it, empty."""
        if run.context.source != "kafka":
            return
        from cdc.kafka.cluster import Cluster

        cluster, stream = Cluster.of(run.context), run.migration().stream
        run.executor.act(None, f"make topic {', '.join(cluster.topics(stream))}", partial(_make_empty, run, stream))

    def undo(self, run: Run) -> None:
        """Remove every connector and topic of the context."""
        remove_all(run)


def remove_all(run: Run) -> None:
    """Remove the context's connectors and topics; slots can be dropped only after their connectors."""
    if run.context.source != "kafka":
        return
    from cdc.kafka.cluster import Cluster

    cluster = Cluster.of(run.context)
    for stream in cluster.streams():
        name = cluster.names(stream).connector
        run.executor.act(None, f"remove connector and topic {name}", partial(cluster.remove, stream))


def remove(run: Run, stream: StreamId) -> None:
    """Remove the connector and the topic of one stream."""
    if run.context.source != "kafka":
        return
    from cdc.kafka.cluster import Cluster

    cluster = Cluster.of(run.context)
    name = cluster.names(stream).connector
    run.executor.act(None, f"remove connector and topic {name}", partial(cluster.remove, stream))


def make_way_back(run: Run, stream: StreamId, side: Side, probe: str) -> None:
    """Make topic and connector of a stream that will read ``side``, and wait for a message to come out of the topic.

    :param probe: what the message that was written on ``side`` after the slot holds.
    :raises ConnectorFailed: the connector does not run, or the message does not come.
    """
    if run.context.source != "kafka":
        return
    link = link_of(run, stream, side)
    name = link.names.connector
    topics = ", ".join(link.cluster.topics(stream))
    run.executor.act(None, f"make topic {topics}", partial(_make_empty, run, stream))
    run.executor.act(
        None,
        f"start connector {name} on the {side} side and wait for the probe",
        partial(link.prove, probe.encode(), PROBE_S),
    )


def link_of(run: Run, stream: StreamId, side: Side) -> Link:
    """The link of a stream that reads ``side``."""
    from cdc.kafka.link import Link

    return Link.of(run.context, stream, run.databases[side], run.databases[side.other])


def _make_empty(run: Run, stream: StreamId) -> None:
    from cdc.kafka import topic
    from cdc.kafka.cluster import Cluster

    cluster = Cluster.of(run.context)
    cluster.make_topics(stream)
    for name in cluster.topics(stream):
        if topic.is_empty(cluster.bootstrap, name, options=cluster.options):
            continue
        raise RefusedError(
            f"topic {name}: it holds events, of an earlier migration",
            unchanged="no event was read or removed",
            next_step=f"drop the topic and connector {name}, then run the command again",
        )
