"""``python -m bench.kafka``: the stream through Kafka against Debezium's JDBC sink and the bare client.

One Kafka, one Connect, two servers. The same backlog is written once and lies in Kafka, for each in its own form,
before anybody is timed; contestants take turns, every second round in the opposite order.
Latency is commit to commit by the servers' own clocks (``track_commit_timestamp``).
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import resource
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.harness import BenchError
from cdc import state
from cdc.apply import Applier, SourceTypes
from cdc.kafka import connect, topic
from cdc.kafka.connect import Connect, Names
from cdc.kafka.parted import PartedSource
from cdc.kafka.settings import Encoding, lossless
from cdc.kafka.source import KafkaSource, descriptions
from cdc.kafka.stack import Stack
from cdc.lsn import parse_lsn
from cdc.source.slots import create_publication, create_slot
from cdc.state import position
from cdc.state.position import Position, StreamId
from cdc.worker.garbage import collect_rarely
from cdc.worker.signals import Signals
from cdc.worker.stream import Stream
from contexts import maven
from contexts.catalog import read_tables
from contexts.databases import Connection, Database
from contexts.embedded import Server
from contexts.model import Options, Side, TableName

STREAM = StreamId("bench", 1)
NAMES = Names.of(STREAM)
SINK_SOURCE = "jdbc_source"
SINK = "Debezium JDBC sink"
DROP = "kafka-python, consuming and dropping"
TABLE = TableName("app", "moves")
DDL = (
    "CREATE SCHEMA IF NOT EXISTS app; CREATE TABLE app.moves (id bigint PRIMARY KEY, account int NOT NULL,"
    " amount numeric(14,2) NOT NULL, memo text, at timestamptz NOT NULL DEFAULT now())"
)
#: The newest whose dependencies are all on Maven Central.
JDBC_SINK = ("io.debezium", "debezium-connector-jdbc", "3.5.0.Final")
PLACEHOLDER = "p" * 40
PATIENCE_S = 600.0


@dataclass(frozen=True)
class Ends:
    """Addresses that a process of its own needs."""

    shared: str
    service: str
    bootstrap: str
    #: Of the rows.
    partitions: int = 1


def main() -> None:
    """Run all parts and print a line for each."""
    parser = argparse.ArgumentParser("bench.kafka", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the backlog, 5 a transaction (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed (%(default)s)")
    parser.add_argument("--rate", type=int, default=500, help="transactions per second for the latency (%(default)s)")
    parser.add_argument("--seconds", type=int, default=20, help="for so long (%(default)s)")
    parser.add_argument("--partitions", type=int, default=1, help="partitions of the rows (%(default)s)")
    args = parser.parse_args()
    print(f"load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with _rig() as (stack, ends):
        ends = replace(ends, partitions=args.partitions)
        _begin(stack, ends)
        changes = _backlog(ends, args.rows)
        _wait_for_topics(stack, ends, changes)
        contestants: dict[str, Callable[[int], float]] = {
            DROP: lambda _: _in_a_process(_drop, ends, changes),
            "carveout": lambda _: _applied(ends, changes),
            SINK: lambda number: _sink(stack, ends, changes, number),
        }
        if ends.partitions > 1:
            del contestants[DROP]
        rates: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(args.rounds):
            for name in list(contestants)[:: -1 if number % 2 else 1]:
                rates[name].append(contestants[name](number))
        _latency(ends, args.rate, args.seconds)
    _report(rates)
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")


def _report(rates: dict[str, list[float]]) -> None:
    sink = statistics.median(rates[SINK])
    for name, each in rates.items():
        median, rounds = statistics.median(each), ", ".join(f"{rate:,.0f}" for rate in each)
        print(f"{name:40} {median:9,.0f} rows/s   {median / sink:5.1f} x the JDBC sink   (rounds: {rounds})")


@contextmanager
def _rig() -> Iterator[tuple[Stack, Ends]]:
    settings = {"track_commit_timestamp": "on", "autovacuum": "off"}
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="carveout-bench-")))
        folder.chmod(0o755)
        shared = running.enter_context(Server(folder / "shared", 16, settings))
        service = running.enter_context(Server(folder / "service", 16, settings))
        sink = maven.cached("-".join(JDBC_SINK[1:]), lambda folder: maven.copy_dependencies(folder, (JDBC_SINK,)))
        stack = running.enter_context(Stack(folder / "kafka", heap_mb=768, more_jars=sink))
        for server, names in ((shared, ("app",)), (service, ("ours", "sink"))):
            with Database(Side.SHARED, server.url()).connect("bench") as conn:
                for name in names:
                    conn.execute(f"CREATE DATABASE {name}".encode())
        yield stack, Ends(shared.url("app"), service.url().rpartition("/")[0], stack.bootstrap)


def _database(ends: Ends, side: Side, name: str = "ours") -> Database:
    return Database(side, ends.shared if side is Side.SHARED else f"{ends.service}/{name}")


def _begin(stack: Stack, ends: Ends) -> None:
    """Tables, both slots, and both source connectors."""
    shared = _database(ends, Side.SHARED)
    for database in (shared, _database(ends, Side.SERVICE), _database(ends, Side.SERVICE, "sink")):
        with database.connect("bench") as conn:
            conn.execute(DDL.encode())
    state.install(_database(ends, Side.SERVICE))
    with shared.connect("bench") as conn, _database(ends, Side.SERVICE).connect("bench") as closed:
        create_publication(conn, NAMES.publication, [TABLE])
        lsn = create_slot(conn, NAMES.slot, publication=NAMES.publication)
        create_slot(conn, SINK_SOURCE, publication=NAMES.publication)
        row = conn.execute(
            "SELECT system_identifier::text, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
        ).fetchone()
        assert row is not None
        position.create(closed, STREAM, Position(row[0], row[1], NAMES.slot, lsn))
        closed.execute("CREATE TABLE app.at_first AS TABLE carveout.position")
    api = Connect(stack.connect_url)
    ours = connect.config(NAMES, shared, placeholder=PLACEHOLDER, partitions=ends.partitions)
    topic.make(ends.bootstrap, NAMES.topic)
    if ends.partitions > 1:
        topic.make(ends.bootstrap, NAMES.rows, partitions=ends.partitions)
    connect.apply(api, NAMES, ours)
    connect.apply(api, _named(SINK_SOURCE), _plain_source(ours))
    topic.make(ends.bootstrap, f"{SINK_SOURCE}.app.moves")


def _named(name: str) -> Names:
    return Names(name, name, name, name)


def _plain_source(ours: dict[str, str]) -> dict[str, str]:
    """The same connector as a user of the JDBC sink has it: a topic per table, no transaction metadata."""
    dropped = ("transforms", "provide.transaction.metadata", "heartbeat", "exactly.once")
    kept = {key: value for key, value in ours.items() if not key.startswith(dropped)}
    return {
        **kept,
        "topic.prefix": SINK_SOURCE,
        "slot.name": SINK_SOURCE,
        "decimal.handling.mode": "precise",
        "column.propagate.source.type": "nothing",
        "message.prefix.exclude.list": ".*",
    }


def _backlog(ends: Ends, rows: int) -> int:
    """Transactions of 5 rows: 4 inserts and an update of an earlier row; returns the number of changes."""
    with _database(ends, Side.SHARED).connect("bench", synchronous_commit="off") as conn:
        for n in range(0, rows * 4 // 5, 4):
            with conn.transaction():
                conn.execute(
                    "INSERT INTO app.moves (id, account, amount, memo) SELECT %s + g, g, 1.50, 'memo ' || g"
                    " FROM generate_series(1, 4) g",
                    (n,),
                )
                conn.execute("UPDATE app.moves SET amount = amount + 1 WHERE id = %s", (n // 2 + 1,))
    return rows


def _wait_for_topics(stack: Stack, ends: Ends, changes: int) -> None:
    wanted = {NAMES.topic: changes * 2 // 5, f"{SINK_SOURCE}.app.moves": changes}
    # Ours has the begin and the end of each transaction of five, too.
    rows = NAMES.rows if ends.partitions > 1 else NAMES.topic
    wanted[rows] = wanted.get(rows, 0) + changes
    for name, records in wanted.items():
        _wait(lambda t=name, n=records: sum(topic.written(stack.bootstrap, t)) >= n, f"{name} holds the backlog")  # type: ignore[misc]


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"waited in vain until {what}")
        time.sleep(0.05)


def _in_a_process(work: Callable[[Ends, int], tuple[int, float]], ends: Ends, changes: int) -> float:
    """Rows per second of ``work`` in a process of its own; prints its CPU and memory."""
    context = mp.get_context("spawn")
    results: Any = context.Queue()
    process = context.Process(target=_timed, args=(work, ends, changes, results))
    process.start()
    seconds, cpu, megabytes, rows = results.get(timeout=PATIENCE_S)
    process.join()
    print(f"  {work.__name__[1:]}: {rows} rows in {seconds:.1f} s, {cpu:.1f} s of CPU, {megabytes:.0f} MB at most")
    return float(rows / seconds)


def _timed(work: Callable[[Ends, int], tuple[int, float]], ends: Ends, changes: int, results: Any) -> None:
    import kafka  # noqa: F401 (not timed)

    cpu = time.process_time()
    rows, seconds = work(ends, changes)
    children = os.times()
    used = time.process_time() - cpu + children.children_user + children.children_system
    results.put((seconds, used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, rows))


def _drop(ends: Ends, changes: int) -> tuple[int, float]:
    """Rows, and seconds since the consumer stood at its place."""
    from kafka import KafkaConsumer, TopicPartition

    consumer: Any = KafkaConsumer(bootstrap_servers=ends.bootstrap, isolation_level="read_committed")
    partition = TopicPartition(NAMES.topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    rows, end = 0, consumer.end_offsets([partition])[partition]
    began = time.monotonic()
    while rows < changes and consumer.position(partition) < end:
        for record in consumer.poll(timeout_ms=500, max_records=5000).get(partition, ()):
            rows += b'"op":"' in record.value
    seconds = time.monotonic() - began
    consumer.close()
    return rows, seconds


@contextmanager
def _stream(ends: Ends, signals: Signals) -> Iterator[Stream]:
    shared, service = _database(ends, Side.SHARED), _database(ends, Side.SERVICE)

    def describe() -> Any:
        with service.connect("bench") as one, shared.connect("bench") as other:
            return descriptions(read_tables(one, [TABLE]), read_tables(other, [TABLE]))

    encoding = Encoding.of({**lossless(), "unavailable.value.placeholder": PLACEHOLDER})
    with closing(
        Applier(service, STREAM, [TABLE], Options(), owner=uuid.uuid4(), source=SourceTypes(service, has_tables=False))
    ) as applier:
        where, at = (ends.bootstrap, NAMES.topic), applier.position
        source: KafkaSource
        if ends.partitions == 1:
            source = KafkaSource(*where, describe, encoding, at, open_side=shared)
        else:
            source = PartedSource(*where, NAMES.rows, ends.partitions, describe, encoding, at, open_side=shared)
        with closing(source):
            yield Stream(
                source, applier, context=STREAM.context, open_=shared, closed=service, options=Options(),
                signals=signals,
            )  # fmt: skip


def _applied(ends: Ends, changes: int) -> float:
    """Rows per second of ours, from the beginning of the topic."""
    with _database(ends, Side.SERVICE).connect("bench") as conn:
        conn.execute("TRUNCATE app.moves, carveout.position; INSERT INTO carveout.position TABLE app.at_first")
    rate = _in_a_process(_ours, ends, changes)
    _require_equal(ends, Side.SERVICE, "service")
    return rate


def _ours(ends: Ends, changes: int) -> tuple[int, float]:
    """Rows, and seconds since the stream was open."""
    collect_rarely()  # as the worker's process does
    with _database(ends, Side.SHARED).connect("bench") as conn:
        row = conn.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None
    with _stream(ends, Signals()) as stream:
        began = time.monotonic()
        stream.catch_up(parse_lsn(row[0]))
        return changes, time.monotonic() - began


def _sink(stack: Stack, ends: Ends, changes: int, number: int) -> float:
    """Rows per second from the first rows that are seen to the last."""
    # Another name is another consumer group: it reads from the beginning.
    api, names = Connect(stack.connect_url), _named(f"jdbc_sink_{number}")
    login = _database(ends, Side.SERVICE, "sink")
    with login.connect("bench") as conn:
        conn.execute("TRUNCATE app.moves")
        host, port, user = conn.info.host, conn.info.port, conn.info.user
        connect.apply(api, names, {
            "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector", "tasks.max": "1",
            "topics": f"{SINK_SOURCE}.app.moves", "connection.url": f"jdbc:postgresql://{host}:{port}/sink",
            "connection.username": user, "connection.password": "", "insert.mode": "upsert",
            "delete.enabled": "true", "primary.key.mode": "record_key", "schema.evolution": "none",
            "collection.name.format": "app.moves", "batch.size": "2000", "use.reduction.buffer": "true",
            "consumer.override.max.poll.records": "2000", "consumer.override.auto.offset.reset": "earliest",
            "consumer.override.fetch.max.bytes": "52428800",
        })  # fmt: skip
        _wait(lambda: _count(conn) > 0, "the sink writes")
        first, began = _count(conn), time.monotonic()
        _wait(lambda: _is_whole(conn, ends), "the sink has written all")
        seconds, total = time.monotonic() - began, _count(conn)
    _require_equal(ends, Side.SERVICE, "sink")
    rows = (total + changes / 5) * (1 - first / total)
    print(f"  JDBC sink: {rows:.0f} rows in {seconds:.1f} s after its first")
    connect.delete(api, names)
    return rows / seconds


def _count(conn: Connection) -> int:
    row = conn.execute("SELECT count(*) FROM app.moves").fetchone()
    assert row is not None
    return int(row[0])


_SUMS = "SELECT count(*), sum(amount), md5(string_agg(id || ':' || amount || memo, ',' ORDER BY id)) FROM app.moves"


def _is_whole(conn: Connection, ends: Ends) -> bool:
    quick = "SELECT count(*), sum(amount) FROM app.moves"
    with _database(ends, Side.SHARED).connect("bench") as shared:
        return conn.execute(quick).fetchone() == shared.execute(quick).fetchone()


def _require_equal(ends: Ends, side: Side, name: str) -> None:
    name = "ours" if name == "service" else name
    with _database(ends, Side.SHARED).connect("bench") as one, _database(ends, side, name).connect("bench") as other:
        if one.execute(_SUMS).fetchone() != other.execute(_SUMS).fetchone():
            raise BenchError(f"{name} does not hold what the shared database holds")


def _latency(ends: Ends, rate: int, seconds: int) -> None:
    context = mp.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=_follow, args=(ends, stop))
    process.start()
    with _database(ends, Side.SHARED).connect("bench", synchronous_commit="off") as conn:
        _wait_applied(ends, conn, -1)
        first = time.monotonic()
        for n in range(rate * seconds):
            if (ahead := first + n / rate - time.monotonic()) > 0:
                time.sleep(ahead)
            conn.execute("INSERT INTO app.moves (id, account, amount) VALUES (%s, 1, 1)", (10_000_000 + n,))
        wrote = rate * seconds / (time.monotonic() - first)
        _wait_applied(ends, conn, -2)
    stop.set()
    process.join(30)
    late = sorted(_commit_to_commit(ends))[: rate * seconds]
    shown = {f"p{q}": late[min(len(late) - 1, len(late) * q // 100)] for q in (50, 90, 99)}
    print(
        f"latency at {wrote:.0f} transactions/s, commit to commit over {len(late)}: "
        + ", ".join(f"{name} {ms:.0f} ms" for name, ms in shown.items())
        + f", mean {statistics.mean(late):.0f} ms"
    )


def _wait_applied(ends: Ends, conn: Connection, key: int) -> None:
    conn.execute("INSERT INTO app.moves (id, account, amount) VALUES (%s, 1, 1)", (key,))
    with _database(ends, Side.SERVICE).connect("bench") as closed:
        _wait(
            lambda: closed.execute("SELECT 1 FROM app.moves WHERE id = %s", (key,)).fetchone() is not None,
            "a row is applied",
        )


def _follow(ends: Ends, stop: Any) -> None:
    collect_rarely()
    signals = Signals()

    def end() -> None:
        stop.wait()
        signals.stop.set()

    threading.Thread(target=end, daemon=True).start()
    with _stream(ends, signals) as stream:
        stream.run()


def _commit_to_commit(ends: Ends) -> list[float]:
    """Milliseconds between the two commits of each row."""
    query = "SELECT id, extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM app.moves WHERE id >= 10000000"
    with _database(ends, Side.SHARED).connect("bench") as one, _database(ends, Side.SERVICE).connect("bench") as other:
        sent: dict[int, Any] = dict(one.execute(query).fetchall())
        came: dict[int, Any] = dict(other.execute(query).fetchall())
    return [float(came[key] - sent[key]) * 1000 for key in sent]


if __name__ == "__main__":
    main()
