"""A context's Kafka as declared in its ``[kafka]`` section: addresses, security, names."""

from __future__ import annotations

import base64
import importlib.util
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cdc.kafka import connect, topic
from cdc.kafka.connect import Connect, Names
from cdc.kafka.group import Membership
from cdc.kafka.topic import Options
from cdc.state.position import StreamId
from contexts.databases import Database
from contexts.errors import ConfigError
from contexts.loader import expand, expand_texts
from contexts.model import Context, Side


@dataclass(frozen=True)
class Cluster:
    """Kafka and Connect of one context; secrets are in no ``repr``."""

    context: str
    bootstrap: str
    connect: Connect
    prefix: str
    replication_factor: int
    plain_arrays: frozenset[str]
    #: Consumer group of the workers, and the silence after which one is replaced.
    group: str | None = None
    group_session_s: float = 10.0
    #: Of the rows of a stream.
    partitions: int = 1
    #: Further options of kafka-python's clients.
    options: Options = field(repr=False, default_factory=dict)
    #: Further settings of the connector that reads a side.
    settings: Mapping[Side, Mapping[str, str]] = field(repr=False, default_factory=dict)

    @classmethod
    def of(cls, context: Context) -> Cluster:
        """The cluster that the context names.

        :raises ConfigError: there is no ``[kafka]``, a ``${VAR}`` is missing, or the extra is not installed.
        """
        given, where = context.kafka, f"{context.folder / 'context.toml'}: kafka"
        if given is None:
            raise ConfigError(f"{where}: the context has no such section", next_step='add [kafka] and source = "kafka"')
        if importlib.util.find_spec("kafka") is None:
            raise ConfigError('source = "kafka" needs an extra', next_step="pip install 'carveout[kafka]'")
        client = expand_texts(given.client, where=f"{where}.client")
        both = {
            Side.SHARED: {**given.connector, **given.shared},
            Side.SERVICE: {**given.connector, **given.service},
        }
        return cls(
            context.name,
            expand(given.bootstrap, where=f"{where}.bootstrap"),
            _connect(expand(given.connect, where=f"{where}.connect")),
            given.topic_prefix,
            given.replication_factor,
            frozenset(given.plain_arrays),
            given.group,
            given.group_session_s,
            given.partitions,
            client,
            {side: expand_texts(settings, where=f"{where}.{side}") for side, settings in both.items()},
        )

    def names(self, stream: StreamId) -> Names:
        """What belongs to a stream of this context."""
        return Names.of(stream, self.prefix)

    def config(self, stream: StreamId, open_: Database, placeholder: str) -> dict[str, str]:
        """The configuration of the stream's connector, with the context's own settings."""
        wanted = connect.config(self.names(stream), open_, placeholder=placeholder, partitions=self.partitions)
        return {**wanted, **self.settings[open_.side]}

    def topics(self, stream: StreamId) -> dict[str, int]:
        """The topics of a stream, the ordered one first, and how many partitions each has."""
        names = self.names(stream)
        return {names.topic: 1} if self.partitions == 1 else {names.topic: 1, names.rows: self.partitions}

    def make_topics(self, stream: StreamId) -> None:
        """Make the stream's topics, or check those that are there.

        :raises RefusedError: a topic of that name could lose or reorder events.
        :raises KafkaUnreachable: no broker answered.
        """
        for name, count in self.topics(stream).items():
            topic.make(
                self.bootstrap, name, partitions=count, replication_factor=self.replication_factor,
                options=self.options,
            )  # fmt: skip

    def join(self, stream: StreamId, on_lost: Callable[[], None]) -> Membership:
        """Join the workers' group for a stream; there has to be one.

        :raises KafkaUnreachable: no broker answered.
        """
        assert self.group
        return Membership(
            self.bootstrap, self.group, self.names(stream).topic,
            session_s=self.group_session_s, on_lost=on_lost, options=self.options,
        )  # fmt: skip

    def remove(self, stream: StreamId) -> None:
        """Remove the stream's connector with its offsets, then its topics; nothing to do where they are not there."""
        names = self.names(stream)
        connect.delete(self.connect, names)
        for name in (names.topic, names.rows):
            topic.drop(self.bootstrap, name, options=self.options)

    def streams(self) -> list[StreamId]:
        """The streams of the context of which a connector or a topic is left."""
        pattern = re.compile(rf"{re.escape(self.prefix)}_{re.escape(self.context)}_([0-9]+)(_rows)?")
        names = [*connect.listed(self.connect), *topic.listed(self.bootstrap, options=self.options)]
        epochs = {int(found[1]) for name in names if (found := pattern.fullmatch(name))}
        return [StreamId(self.context, epoch) for epoch in sorted(epochs)]


def _connect(url: str) -> Connect:
    parts = urllib.parse.urlsplit(url)
    if parts.username is None:
        return Connect(url.rstrip("/"))
    login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return Connect(plain.geturl().rstrip("/"), authorization=f"Basic {base64.b64encode(login.encode()).decode()}")
