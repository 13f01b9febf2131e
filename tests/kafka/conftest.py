"""One real stack (Kafka, Connect, Debezium) for the session, and one stream per test."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from cdc.events import Event, Idle, Transaction
from cdc.kafka import connect, jars
from cdc.kafka.anchor import Anchor
from cdc.kafka.cluster import Cluster
from cdc.kafka.connect import Connect, Names
from cdc.kafka.link import Link
from cdc.kafka.parted import PartedSource
from cdc.kafka.settings import Encoding
from cdc.kafka.source import KafkaSource
from cdc.kafka.stack import Stack
from cdc.state.position import Position, StreamId
from contexts.catalog import Table
from contexts.databases import Connection, Database
from contexts.model import Side, TableName
from tests.conftest import need
from tests.kafka import recorded

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    missing = jars.missing_tools()
    need("kafka", not missing, f"put {', '.join(missing)} on the PATH")
    folder = Path(tempfile.mkdtemp(prefix="carveout-kafka-"))
    with Stack(folder) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Stream:
    """A database whose changes go through Debezium and Kafka."""

    stack: Stack
    database: Database
    major: int
    stream: StreamId
    sources: list[KafkaSource] = field(default_factory=list)
    start_lsn: int = 0
    #: Of the rows.
    partitions: int = 1

    @property
    def names(self) -> Names:
        return Names.of(self.stream)

    @property
    def api(self) -> Connect:
        return Connect(self.stack.connect_url, timeout_s=90)

    def owner(self) -> Connection:
        """A session of the application: its settings are its own."""
        return self.database.connect("test", search_path="app")

    def tables(self, conn: Connection) -> dict[TableName, Table]:
        return recorded.tables(conn, "app")

    def prepare(self) -> None:
        """Publication, slot and topic."""
        with self.database.connect("test") as conn:
            self.start_lsn = connect.prepare(conn, self.names, sorted(self.tables(conn)))
        self.cluster().make_topics(self.stream)

    def cluster(self) -> Cluster:
        return Cluster("", self.stack.bootstrap, self.api, "carveout", -1, frozenset(), partitions=self.partitions)

    def connector(self, **changes: str) -> None:
        """Start the connector."""
        known = connect.current(self.api, self.names) or {}
        config = connect.config(
            self.names, self.database, placeholder=known.get("unavailable.value.placeholder", ""), heartbeat_ms=200,
            partitions=self.partitions,
        )  # fmt: skip
        connect.apply(self.api, self.names, {**config, **changes})

    def stop(self) -> None:
        """Stop the connector; its place stays."""
        connect.stop(self.api, self.names)

    def resume(self) -> None:
        """Let it run again."""
        connect.resume(self.api, self.names)
        connect.await_running(self.api, self.names)

    def encoding(self) -> Encoding:
        config = connect.current(self.api, self.names)
        assert config is not None
        return Encoding.of(config)

    def position(self, end_lsn: int = 0, ordinal: int = 0, parts: tuple[int, ...] = ()) -> Position:
        return Position("1", 1, self.names.slot, end_lsn or self.start_lsn, ordinal, parts=parts)

    def source(
        self, position: Position | None = None, tables: Mapping[TableName, Table] | None = None,
        plain_arrays: frozenset[str] = frozenset(),
    ) -> KafkaSource:  # fmt: skip
        def described() -> Mapping[TableName, Table]:
            with self.database.connect("test") as conn:
                return tables or self.tables(conn)

        anchor = Anchor(self.database, self.names.slot)
        again = partial(Link(self.cluster(), self.stream, self.database, self.database, ()).send_again, anchor)
        where, at = (self.stack.bootstrap, self.names.topic), position or self.position()
        made: KafkaSource
        if self.partitions == 1:
            made = KafkaSource(
                *where, described, self.encoding(), at, open_side=self.database, plain_arrays=plain_arrays,
                send_again=again, anchor=anchor,
            )  # fmt: skip
        else:
            made = PartedSource(
                *where, self.names.rows, self.partitions, described, self.encoding(), at, open_side=self.database,
                plain_arrays=plain_arrays, send_again=again, anchor=anchor,
            )  # fmt: skip
        self.sources.append(made)
        return made


def collect(source: KafkaSource, stop: Callable[[list[Event]], bool], timeout_s: float = 60.0) -> list[Event]:
    """Poll until ``stop`` likes what came."""
    found: list[Event] = []
    deadline = time.monotonic() + timeout_s
    while not stop(found):
        assert time.monotonic() < deadline, found
        if event := source.poll(0.2):
            found.append(event)
    return found


def until_idle(source: KafkaSource, beyond: int) -> list[Transaction]:
    """All transactions up to an idle event at or beyond an LSN."""
    source.request_idle()
    events = collect(source, lambda found: any(isinstance(e, Idle) and e.lsn >= beyond for e in found))
    return [event for event in events if isinstance(event, Transaction)]


@pytest.fixture
def new_stream(stack: Stack, new_database: Callable[[int, Side], Database]) -> Iterator[Callable[[int], Stream]]:
    """``new_stream(16)``: an empty database with an ``app`` schema, and the names of its stream."""
    made: list[Stream] = []

    def make(major: int) -> Stream:
        stream = Stream(stack, new_database(major, Side.SHARED), major, StreamId(f"ctx{next(_numbers)}", 1))
        with stream.database.connect("test") as conn:
            conn.execute("CREATE SCHEMA app")
        made.append(stream)
        return stream

    yield make
    for stream in made:
        for source in stream.sources:
            source.close()
        connect.delete(stream.api, stream.names)
