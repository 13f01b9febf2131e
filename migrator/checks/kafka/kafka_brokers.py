"""Kafka answers, and the topic of the stream is not there yet, or keeps everything in order (source kafka)."""

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
    name = cluster.names(migrations.read(environment.shared, environment.context.name).stream).topic
    if name not in topic.listed(cluster.bootstrap, options=cluster.options):
        return
    try:
        topic.check(cluster.bootstrap, name, options=cluster.options)
    except RefusedError as error:
        yield blocker(None, f"topic {name}", error.message, error.next_step)
    if not environment.started and not topic.is_empty(cluster.bootstrap, name, options=cluster.options):
        yield blocker(None, f"topic {name}", "holds events of an earlier stream", "drop the topic")
