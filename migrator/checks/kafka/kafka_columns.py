"""Every value of every column arrives whole through Debezium, or the column is named with what helps (source kafka)."""

from __future__ import annotations

from collections.abc import Iterator

from cdc.kafka.cluster import Cluster
from cdc.kafka.decoder import refusals
from cdc.kafka.settings import Encoding
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker
from migrator.control import migrations


def check(environment: Environment) -> Iterator[Finding]:
    if environment.context.source != "kafka":
        return
    cluster = Cluster.of(environment.context)
    stream = migrations.read(environment.shared, environment.context.name).stream
    for side in Side:
        encoding = Encoding.of(cluster.config(stream, environment.databases[side], placeholder=""))
        found = refusals(environment.tables(side).values(), encoding, cluster.plain_arrays)
        for name, refusal in found.items():
            yield blocker(side, name, refusal.reason, refusal.fix)
