"""Kafka answers, and the stream's topics are not there yet, or keep everything in order (source kafka)."""

from __future__ import annotations

from collections.abc import Iterator

from cdc.kafka import topic
from cdc.kafka.cluster import Cluster
from contexts.errors import RefusedError
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker
from migrator.control import migrations


def check(environment: Environment) -> Iterator[Finding]:
    if environment.context.source != "kafka":
        return
    cluster = Cluster.of(environment.context)
    stream = migrations.read(environment.shared, environment.context.name).stream
    there = topic.listed(cluster.bootstrap, options=cluster.options)
    for name, count in cluster.topics(stream).items():
        if name in there:
            yield from _check(environment, cluster, name, count)


def _check(environment: Environment, cluster: Cluster, name: str, count: int) -> Iterator[Finding]:
    try:
        topic.check(cluster.bootstrap, name, partitions=count, options=cluster.options)
    except RefusedError as error:
        yield blocker(None, f"topic {name}", error.message, error.next_step)
    if not environment.started and not topic.is_empty(cluster.bootstrap, name, options=cluster.options):
        yield blocker(None, f"topic {name}", "holds events of an earlier stream", "drop the topic")
