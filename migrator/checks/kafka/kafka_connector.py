"""A connector of the stream's name that is there already loses nothing, whoever configured it (source kafka)."""

from __future__ import annotations

from collections.abc import Iterator

from cdc.kafka import connect, settings
from cdc.kafka.cluster import Cluster
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker
from migrator.control import migrations


def check(environment: Environment) -> Iterator[Finding]:
    if environment.context.source != "kafka":
        return
    cluster = Cluster.of(environment.context)
    names = cluster.names(migrations.read(environment.shared, environment.context.name).stream)
    config = connect.current(cluster.connect, names)
    if config is None:
        return
    about = f"connector {names.connector}"
    if not environment.started:
        fix = f"carveout connector delete {environment.context.name}"
        yield blocker(None, about, "is there already: the slot that the copy makes could not be its own", fix)
    for finding in settings.audit(config):
        yield blocker(None, about, f"{finding.setting}={finding.given}: {finding.reason}", finding.fix)
