"""Kafka Connect accepts the connectors: its plugin, exactly-once, and its login to both databases (source kafka)."""

from __future__ import annotations

from collections.abc import Iterator

from cdc.kafka import connect, settings
from cdc.kafka.cluster import Cluster
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, warning
from migrator.control import migrations


def check(environment: Environment) -> Iterator[Finding]:
    if environment.context.source != "kafka":
        return
    cluster = Cluster.of(environment.context)
    stream = migrations.read(environment.shared, environment.context.name).stream
    for side in Side:  # the service side is read after a cutover
        config = cluster.config(stream, environment.databases[side], placeholder="")
        for finding in settings.audit(config):
            message = f"{finding.setting}={finding.given}: {finding.reason}"
            yield blocker(side, "connector", message, f"{finding.fix} in [kafka] of {environment.context_file}")
        for setting, error in connect.validate(cluster.connect, config).items():
            yield blocker(side, f"connector setting {setting}", error, f"mend it, or set it in [kafka.{side}]")
        if (password := config["database.password"]) and not password.startswith("${"):
            message = "its password will be kept and shown by Connect as it is"
            fix = f'[kafka.{side}] "database.password" = "${{file:/path:key}}", read by a config provider of Connect'
            yield warning(side, "connector", message, fix)
