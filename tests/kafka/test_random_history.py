"""Random histories through real Debezium against the embedded source: after each, three databases hold the same rows.

The tables are those of ``tests/stream``, without what ``check`` refuses (that list stands here), and two with a column
of every type that it accepts. Without settings a short, fixed selection is played; ``CARVEOUT_KAFKA_HISTORIES`` plays
so many random ones (``python -m tests.chaos kafka_histories``).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from cdc import state
from cdc.apply import Applier, SourceTypes
from cdc.kafka import connect, topic
from cdc.kafka.connect import Names
from cdc.kafka.decoder import refusals
from cdc.kafka.parted import PartedSource
from cdc.kafka.settings import Encoding, lossless
from cdc.kafka.source import KafkaSource, descriptions
from cdc.kafka.stack import Stack
from cdc.lsn import parse_lsn
from cdc.source.base import Source
from cdc.source.embedded import EmbeddedSource
from cdc.source.slots import create_publication, create_slot
from cdc.state import position
from cdc.state.position import Position, StreamId
from cdc.worker.signals import Signals
from cdc.worker.stream import Stream
from contexts.catalog import Table, read_tables
from contexts.databases import Connection, Database
from contexts.model import Options, Side, TableName
from tests.conftest import new_databases
from tests.kafka import contracts, every_type
from tests.kafka.moving import api
from tests.stream.shapes import BY_NAME, SCHEMA, SHAPES, TYPES_SQL, Shape
from tests.stream.sides import run
from tests.stream.statements import seeds, transactions

HISTORIES = int(os.environ.get("CARVEOUT_KAFKA_HISTORIES", "0"))
PLAIN = ("h.scaled.v", "h.typed_full.c_texts", "h.typed.c_texts", *every_type.PLAIN)
ENCODING = Encoding.of({**lossless(), "unavailable.value.placeholder": "p" * 30})
#: What ``check`` refuses of these tables: the columns of ``typed``, and of ``typed_full`` beside them nothing else.
REFUSED = {
    "h.indexed",
    *(f"h.typed.c_{name}" for name in ("timetz", "varbit", "ints", "moods", "pairs", "codes", "span")),
    *(f"h.typed_full.c_{name}" for name in ("timetz", "varbit", "ints", "moods", "pairs", "codes", "span")),
}
#: Past the greatest instant that Debezium sends right: such a value stops the stream.
TOO_LATE = "'294276-12-31 23:59:59.999'"


def accepted(shape: Shape) -> Shape:
    values = {n: p for n, p in shape.values.items() if f"{shape.table}.{n}" not in REFUSED}
    return replace(shape, values={n: tuple(v for v in p if v != TOO_LATE) for n, p in values.items()})


@dataclass(frozen=True)
class Play:
    """Which tables, on which servers."""

    name: str
    #: Of the open side, of the closed one through Kafka, and of the closed one without.
    majors: tuple[int, int, int]
    shapes: tuple[Shape, ...]
    #: Those of which every value is written.
    covered: tuple[str, ...] = ()
    extensions: str = ""
    #: Random ones, where nobody asks for more.
    histories: int = 8
    #: Of the rows.
    partitions: int = 1

    @property
    def accepted(self) -> list[Shape]:
        return [accepted(shape) for shape in self.shapes if shape.table not in REFUSED]

    @property
    def tables(self) -> list[TableName]:
        return [TableName(SCHEMA, shape.name) for shape in self.accepted]

    @property
    def stream(self) -> StreamId:
        return StreamId(self.name, 1)

    @property
    def names(self) -> Names:
        return Names.of(self.stream, "random")


ALL = Play("h", (16, 18, 16), (*SHAPES, every_type.EVERY, every_type.EVERY_FULL, every_type.EVERY_DOMAIN),
           ("every", "every_full", "every_domain"))  # fmt: skip
#: The same, with the rows in several partitions.
PARTED = replace(ALL, name="hp", partitions=4, histories=3)
#: The only servers here that bring extensions.
EXTENDED = Play("hx", (15, 15, 15), (BY_NAME["plain"], every_type.EVERY_EXTENDED), ("plain", "every_extended"),
                every_type.EXTENSIONS, histories=2)  # fmt: skip


@dataclass
class Sides:
    """One open side and two closed ones, each with its own stream."""

    play: Play
    shared: Connection
    closed: dict[str, Connection]
    streams: dict[str, Stream]

    def catch_up(self) -> None:
        row = self.shared.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        assert row is not None
        for stream in self.streams.values():
            assert stream.catch_up(parse_lsn(row[0]))

    def assert_equal(self) -> int:
        count = 0
        for shape in self.play.accepted:
            expected = rows(self.shared, shape)
            for name, conn in self.closed.items():
                assert rows(conn, shape) == expected, f"{shape.table} through {name}"
            count += len(expected)
        return count


def rows(conn: Connection, shape: Shape) -> list[Any]:
    names = sql.SQL(", ").join(map(sql.Identifier, shape.values))
    query = sql.SQL("COPY (SELECT tableoid::regclass, {} FROM {}) TO STDOUT").format(names, sql.SQL(shape.table))
    with conn.cursor().copy(query) as copy:
        return sorted(bytes(line) for line in copy)


def described(conn: Connection, play: Play) -> dict[TableName, Table]:
    return read_tables(conn, play.tables)


@pytest.fixture(scope="module")
def databases(servers: Any) -> Iterator[Callable[[int, Side], Database]]:
    yield from new_databases(servers)


@pytest.fixture(scope="module", params=[ALL, PARTED, EXTENDED], ids=lambda play: play.name)
def sides(
    request: pytest.FixtureRequest, databases: Callable[[int, Side], Database], stack: Stack, tmp_path_factory: Any
) -> Iterator[Sides]:
    play: Play = request.param
    shared = databases(play.majors[0], Side.SHARED)
    targets = {
        name: databases(major, Side.SERVICE) for name, major in zip(("kafka", "embedded"), play.majors[1:], strict=True)
    }
    with ExitStack() as ended:
        conns = {name: ended.enter_context(closing(application(one))) for name, one in targets.items()}
        app = ended.enter_context(closing(application(shared)))
        create_tables(app, play, closed=False)
        for conn in conns.values():
            create_tables(conn, play, closed=True)
        positions = started(app, play, shared, targets, stack)
        ended.callback(connect.delete, api(stack), play.names)
        spool = tmp_path_factory.mktemp("spool")
        streams = {
            name: stream_to(ended, play, shared, targets[name], source)
            for name, source in (
                ("kafka", lambda: from_kafka(stack, play, shared, targets["kafka"], positions["kafka"])),
                ("embedded", lambda: directly(play, shared, positions["embedded"], spool)),
            )
        }
        yield Sides(play, app, conns, streams)


def application(database: Database) -> Connection:
    return database.connect("test", search_path=SCHEMA, lock_timeout="30ms", client_min_messages="error")


def create_tables(conn: Connection, play: Play, *, closed: bool) -> None:
    statements = [play.extensions, TYPES_SQL, *(shape.statements(closed=closed) for shape in play.shapes)]
    conn.execute(";".join(statements).encode())
    made = {shape.name for shape in play.shapes}
    for name in sorted(REFUSED):
        schema, table, *column = name.split(".")
        if table not in made:
            continue
        drop = f"ALTER TABLE {schema}.{table} DROP COLUMN {column[0]}" if column else f"DROP TABLE {schema}.{table}"
        found = set(refusals(read_tables(conn, [TableName(schema, table)]).values(), ENCODING, PLAIN))
        assert closed or name in found, f"{name} is not refused"
        conn.execute(drop.encode())
    assert set(refusals(described(conn, play).values(), ENCODING, PLAIN)) == set()


def started(
    conn: Connection, play: Play, shared: Database, targets: dict[str, Database], stack: Stack
) -> dict[str, Position]:
    """Both slots, both positions, and the connector."""
    names = play.names
    create_publication(conn, names.publication, play.tables)
    row = conn.execute("SELECT system_identifier::text, timeline_id FROM pg_control_system(), pg_control_checkpoint()")
    identity = row.fetchone()
    assert identity is not None
    found: dict[str, Position] = {}
    for name, slot in (("kafka", names.slot), ("embedded", f"{names.slot}_own")):
        lsn = create_slot(conn, slot, publication=names.publication)
        found[name] = Position(identity[0], identity[1], slot, lsn)
        state.install(targets[name])
        with targets[name].connect("test") as closed:
            position.create(closed, play.stream, found[name])
    topic.make(stack.bootstrap, names.topic)
    if play.partitions > 1:
        topic.make(stack.bootstrap, names.rows, partitions=play.partitions)
    config = connect.config(names, shared, placeholder=ENCODING.placeholder, partitions=play.partitions)
    connect.apply(api(stack), names, config)
    return found


def from_kafka(stack: Stack, play: Play, shared: Database, closed: Database, at: Position) -> Source:
    def describe() -> dict[TableName, Table]:
        with closed.connect("test") as one, shared.connect("test") as other:
            return descriptions(described(one, play), described(other, play))

    where = stack.bootstrap, play.names.topic
    if play.partitions == 1:
        return KafkaSource(*where, describe, ENCODING, at, open_side=shared, plain_arrays=PLAIN)
    return PartedSource(
        *where, play.names.rows, play.partitions, describe, ENCODING, at, open_side=shared, plain_arrays=PLAIN
    )


def directly(play: Play, shared: Database, at: Position, spool: Path) -> Source:
    return EmbeddedSource(shared, play.names.publication, at, spool_dir=spool, memory_bytes=1 << 20)


def stream_to(ended: ExitStack, play: Play, shared: Database, closed: Database, make: Callable[[], Source]) -> Stream:
    source = ended.enter_context(closing(make()))
    described_by = SourceTypes(closed if isinstance(source, KafkaSource) else shared)
    applier = ended.enter_context(
        closing(Applier(closed, play.stream, play.tables, Options(), owner=uuid.uuid4(), source=described_by))
    )
    return Stream(source, applier, context=play.name, open_=shared, closed=closed, options=Options(), signals=Signals())


def test_every_value_of_every_type_arrives(sides: Sides) -> None:
    for name in sides.play.covered:
        [shape] = [one for one in sides.play.accepted if one.name == name]
        for statement in every_type.covering(shape):
            sides.shared.execute(statement.encode())
    sides.catch_up()
    assert sides.assert_equal() > 2 * len(sides.play.covered)


@pytest.fixture
def only_accepted(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in sides.play.accepted:
        monkeypatch.setitem(BY_NAME, shape.name, shape)


def test_random_histories_arrive_the_same_way(sides: Sides, only_accepted: None, stack: Stack) -> None:
    seen = {"rows": 0, "histories": 0}
    shapes = [shape.name for shape in sides.play.accepted]

    @settings(
        max_examples=HISTORIES or sides.play.histories, derandomize=not HISTORIES, deadline=None, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(data=st.data())
    def play(data: st.DataObject) -> None:
        some = st.lists(st.sampled_from(shapes), min_size=min(4, len(shapes)), max_size=8, unique=True)
        names = data.draw(some)
        everything = ", ".join(shape.table for shape in sides.play.accepted)
        sides.shared.execute(f"TRUNCATE {everything}".encode())
        write(sides.shared, data.draw(seeds(names)), "COMMIT")
        for one in data.draw(st.lists(transactions(names), min_size=6, max_size=20)):
            write(sides.shared, one, data.draw(st.sampled_from(["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"])))
        sides.catch_up()
        seen["rows"] += sides.assert_equal()
        seen["histories"] += 1

    play()
    assert seen["rows"] > len(shapes) * seen["histories"] / 2 > 0, seen
    keeps_the_contract(sides, stack)


def keeps_the_contract(sides: Sides, stack: Stack) -> None:
    """Everything that went through the topic is of its schemas."""
    tables = described(sides.shared, sides.play)
    contract = contracts.contract_of(sides.shared, tables, ENCODING, PLAIN)
    judge = contracts.Judge.of(sides.shared, contract)
    names = sides.play.names
    for one in (names.topic,) if sides.play.partitions == 1 else (names.topic, names.rows):
        judge.judge(contracts.records(stack.bootstrap, one))
    assert {f"{SCHEMA}.{name}" for name in sides.play.covered} < judge.seen.keys()


def write(conn: Connection, transaction: Any, end: str) -> None:
    conn.execute("BEGIN")
    try:
        run(conn, transaction, carefully=True)
        with suppress(psycopg.IntegrityError):  # a deferred key: the server has rolled back
            conn.execute(end.encode())
    except BaseException:
        conn.execute("ROLLBACK")
        raise
