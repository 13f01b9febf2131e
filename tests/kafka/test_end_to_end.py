"""PostgreSQL -> Debezium -> Kafka -> KafkaSource, for real, against what pgoutput itself says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cdc.events import (
    UNCHANGED,
    Change,
    Delete,
    Event,
    Idle,
    Insert,
    Message,
    Relation,
    Row,
    Transaction,
    Truncate,
    Update,
)
from cdc.kafka import connect
from cdc.source import slots
from cdc.source.embedded import EmbeddedSource
from cdc.state.position import Position
from contexts.databases import Database
from contexts.model import Side
from tests.kafka import contracts, recorded
from tests.kafka.conftest import Stream, until_idle
from tests.kafka.replay import apply

pytestmark = pytest.mark.usefixtures("stack")
NewStream = Callable[[int], Stream]
#: What a role may have set; none of it may change a value.
ODD_ROLE = """
CREATE ROLE {0} LOGIN SUPERUSER REPLICATION;
ALTER ROLE {0} SET intervalstyle = iso_8601; ALTER ROLE {0} SET bytea_output = escape;
ALTER ROLE {0} SET datestyle = 'SQL, DMY'; ALTER ROLE {0} SET timezone = 'Asia/Kolkata';
ALTER ROLE {0} SET extra_float_digits = 0; ALTER ROLE {0} SET search_path = app
"""


def now(stream: Stream) -> int:
    with stream.database.connect("test") as conn:
        row = conn.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
    assert row is not None
    return int(row[0])


def embedded(stream: Stream, slot: str, start: int, beyond: int, folder: Path) -> list[Transaction]:
    """The same changes through our own client of the replication protocol."""
    with stream.database.connect("test") as conn:
        row = conn.execute(
            "SELECT system_identifier::text, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
        ).fetchone()
    assert row is not None
    position = Position(row[0], row[1], slot, start)
    found: list[Transaction] = []
    with closing(
        EmbeddedSource(stream.database, stream.names.publication, position, spool_dir=folder, memory_bytes=1 << 26)
    ) as source:
        event: Event | None = None
        while event is None or (event.lsn if isinstance(event, Idle) else event.end_lsn) < beyond:
            source.request_idle()
            if (event := source.poll(5)) and isinstance(event, Transaction) and event.end_lsn <= beyond:
                found.append(replace(event, changes=list(event.changes)))
    return found


def shape(relation: Relation) -> object:
    return relation.table, relation.replica_identity, [(c.name, c.typmod, c.is_key) for c in relation.columns]


def filled(update: Update) -> tuple[Row, Row | None]:
    """New and old row, the same whatever the source.

    Under FULL, and in a TOASTed key, pgoutput leaves an unchanged value to the old row; Debezium fills it in.
    """
    new, old, columns = update.new, update.old, update.relation.columns
    if old is None:
        return new, None
    means = [update.old_is_full or column.is_key for column in columns]
    new = [old[i] if value is UNCHANGED and means[i] else value for i, value in enumerate(new)]
    if not update.old_is_full and all(new[i] == old[i] for i, column in enumerate(columns) if column.is_key):
        return new, None
    return new, old


def plain(change: Change) -> object:
    """A change as something that compares."""
    match change:
        case Insert(relation, new):
            return "insert", shape(relation), new
        case Update(relation, _, _, full):
            return "update", shape(relation), *filled(change), full
        case Delete(relation, old, full):
            return "delete", shape(relation), old, full
        case Truncate(relations):
            return "truncate", sorted(str(relation.table) for relation in relations)
        case Message(prefix, content, _):
            return "message", prefix, content


@pytest.mark.parametrize(("major", "partitions"), [(16, 1), (15, 1), (18, 1), (16, 4)])
def test_every_change_is_what_pgoutput_says(
    major: int, partitions: int, new_stream: NewStream, new_database: Callable[[int, Side], Database], tmp_path: Path
) -> None:
    stream = new_stream(major)
    stream.partitions = partitions
    role = f"odd_{stream.names.slot}"
    with stream.database.connect("test") as conn:
        conn.execute(ODD_ROLE.format(role).encode())
    files = ["e2e_schema.sql", "e2e_extensions.sql"][: 2 if major == 15 else 1]
    for file in files:
        recorded.run_sql(stream.database, file)
    stream.prepare()
    with stream.database.connect("test") as conn:
        start = slots.create_slot(conn, f"{stream.names.slot}_own", publication=stream.names.publication)
    stream.connector(**{"database.user": role})
    for file in ["e2e_rows.sql", "e2e_extension_rows.sql"][: len(files)]:
        recorded.run_sql(stream.database, file)
    end = now(stream)
    arrays = {f"app.{t}.{c}" for t, columns in ARRAYS.items() for c in columns}
    through_kafka = until_idle(stream.source(plain_arrays=frozenset(arrays)), end)
    directly = embedded(stream, f"{stream.names.slot}_own", start, end, tmp_path)
    assert len(through_kafka) > 50
    for ours, theirs in zip(through_kafka, directly, strict=False):
        assert [plain(c) for c in ours.changes] == [plain(c) for c in theirs.changes]
        assert (ours.xid, ours.end_lsn, ours.commit_time_us) == (theirs.xid, theirs.end_lsn, theirs.commit_time_us)
        assert theirs.commit_lsn <= ours.commit_lsn < ours.end_lsn
    assert len(through_kafka) == len(directly)
    _compare_tables(stream, new_database(major, Side.SERVICE), files, through_kafka)
    with stream.database.connect("test") as conn:
        contract = contracts.contract_of(conn, stream.tables(conn), stream.encoding(), arrays)
        judge = contracts.Judge.of(conn, contract)
    for topic in stream.cluster().topics(stream.stream):
        judge.judge(contracts.records(stream.stack.bootstrap, topic))
    assert judge.seen.keys() >= {"app.numbers", "app.toast", "app.part", "transaction", "message", "notification"}


ARRAYS = {
    "arrays": [
        f"c_{name}"
        for name in (
            "int2",
            "int4",
            "int8",
            "f4",
            "f8",
            "bool",
            "text",
            "varchar",
            "char",
            "uuid",
            "json",
            "jsonb",
            "bytea",
        )
    ],
    "toast": ["c_texts", "c_ints", "c_longs", "c_uuids", "c_jsonbs", "c_byteas"],
    "toast_full": ["c_shorts", "c_doubles", "c_bools"],
}


def _compare_tables(stream: Stream, target: Database, files: list[str], found: list[Transaction]) -> None:
    with target.connect("test") as conn:
        conn.execute("CREATE SCHEMA app")
    for file in files:
        recorded.run_sql(target, file)
    with stream.database.connect("test") as there, target.connect("test", session_replication_role="replica") as here:
        for transaction in found:
            apply(here, transaction)
        rows = 0
        for table in stream.tables(there).values():
            order = f' ORDER BY "{table.columns[0].name}"'
            expected = recorded.texts(there, table, order)
            assert recorded.texts(here, table, order) == expected, table.name
            rows += len(expected)
        assert rows > 70


def test_changes_made_before_the_connector_starts_are_not_lost(new_stream: NewStream) -> None:
    stream = new_stream(16)
    with stream.owner() as conn:
        conn.execute("CREATE TABLE app.t (id int PRIMARY KEY, v text)")
        stream.prepare()
        conn.execute("INSERT INTO app.t SELECT n, 'before' FROM generate_series(1, 50) n")
        stream.connector()
        conn.execute("INSERT INTO app.t SELECT n, 'after' FROM generate_series(51, 60) n")
    found = until_idle(stream.source(), now(stream))
    assert [t.size for t in found] == [50, 10]


def test_a_connector_is_removed_with_its_offsets(new_stream: NewStream) -> None:
    stream = new_stream(16)
    with stream.owner() as conn:
        conn.execute("CREATE TABLE app.t (id int PRIMARY KEY, v text)")
    stream.prepare()
    stream.connector()
    status = connect.status(stream.api, stream.names)
    assert status is not None
    assert status.is_running
    connect.delete(stream.api, stream.names)
    assert connect.status(stream.api, stream.names) is None
    with stream.database.connect("test") as conn:
        connect.remove(conn, stream.names)
        assert not slots.slot_status(conn, stream.names.slot).exists
        assert not slots.publication_exists(conn, stream.names.publication)
