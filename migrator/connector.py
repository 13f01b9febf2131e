"""What is wrong with the connector of a stream, for ``doctor``, ``connector status`` and the conditions of a switch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cdc.state import position
from contexts.errors import CarveoutError, ConfigError, RefusedError
from migrator.control.migrations import Migration
from migrator.run import Run
from migrator.steps.transport import link_of

if TYPE_CHECKING:
    from cdc.kafka.link import Link


def present(run: Run) -> Link:
    """The link of the context's present stream.

    :raises ConfigError: the context's stream does not go through Kafka.
    """
    if run.context.source != "kafka":
        raise ConfigError(
            f"{run.context.folder / 'context.toml'}: source: the stream of {run.name} does not go through Kafka",
            unchanged="nothing was changed",
            next_step='source = "kafka" and a section [kafka], before the migration begins',
        )
    migration = run.migration()
    return link_of(run, migration.stream, migration.open_side)


def problems(run: Run) -> list[str]:
    """A sentence for each; empty where the connector runs, loses nothing, and its topic keeps everything."""
    try:
        return list(_problems(present(run), run.name))
    except CarveoutError as error:
        return [error.message]


def _problems(link: Link, context: str) -> Iterator[str]:
    from cdc.kafka import connect, settings, topic
    from cdc.kafka.link import foreign

    api, names, cluster = link.cluster.connect, link.names, link.cluster
    config, status = connect.current(api, names), connect.status(api, names)
    if config is None or status is None:
        yield f"connector {names.connector} is not there: `carveout connector apply {context}`"
    else:
        if not status.is_running:
            states = ", ".join((status.connector, *status.tasks))
            yield f"connector {names.connector} does not run ({states}) {status.trace}".rstrip()
        for found in settings.audit(config):
            yield f"connector {names.connector}: {found.setting}={found.given}: {found.reason} ({found.fix})"
        if placeholder := link.placeholder():  # none before the stream has begun
            wanted = cluster.config(link.stream, link.open_, placeholder)
            yield from (f"connector {names.connector}: {one}" for one in foreign(config, wanted))
    for name, count in cluster.topics(link.stream).items():
        try:
            topic.check(cluster.bootstrap, name, partitions=count, options=cluster.options)
        except RefusedError as error:
            yield error.message


def health(run: Run, migration: Migration) -> dict[str, Any] | None:
    """How the present stream does on its way through Kafka; None where it does not go there, or there is none yet."""
    if run.context.source != "kafka" or not migration.state.has_stream:
        return None
    from cdc.kafka.health import look

    return look(link_of(run, migration.stream, migration.open_side)).to_json()


def described(run: Run) -> dict[str, Any]:
    """Names and state of the present stream's connector, as ``connector status --json`` prints them."""
    from cdc.kafka import connect

    link = present(run)
    names, status = link.names, connect.status(link.cluster.connect, link.names)
    return {
        "connector": names.connector,
        "topic": names.topic,
        "slot": names.slot,
        "side": run.migration().open_side,
        "state": status.connector if status else None,
        "tasks": list(status.tasks) if status else [],
        "trace": status.trace if status else "",
        "findings": problems(run),
    }


def shown_config(run: Run) -> dict[str, str]:
    """The connector's configuration, without a password in plain text; reads only."""
    link = present(run)
    config = link.cluster.config(link.stream, link.open_, link.placeholder() or "(random: made with the stream)")
    return without_secrets(config)


def without_secrets(config: Mapping[str, str]) -> dict[str, str]:
    """The configuration in the order of its keys, without passwords that are no references."""
    secret = {key for key, value in config.items() if "password" in key and value and "${" not in value}
    return {key: "********" if key in secret else value for key, value in sorted(config.items())}


def apply(run: Run) -> None:
    """Give the connector its settings; one that is gone goes on from its stored place, or is not made.

    :raises RefusedError: the stream has not begun, or its place is lost.
    """
    link, name = present(run), run.name
    stored = position.read(run.executor.connection(link.closed.side), link.stream)
    if stored is None:
        raise RefusedError(
            f"context {name!r} is {run.migration().state}: the worker makes the connector when it makes the slot",
            unchanged="nothing was changed",
            next_step=f"carveout status {name}",
        )
    run.executor.act(None, f"configure connector {link.names.connector}", lambda: link.apply(stored))
