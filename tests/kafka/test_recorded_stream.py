"""The recorded scenarios, decoded and applied to a second database, give the tables that the SQL gave."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from cdc.events import UNCHANGED, Idle, Insert, Message, Transaction, Truncate, Update
from cdc.kafka.decoder import Decoder, Undecodable, table_refusal
from contexts.databases import Connection, Database
from contexts.errors import SchemaMismatch
from contexts.model import Side, TableName
from tests.kafka import recorded
from tests.kafka.recorded import Recorded
from tests.kafka.replay import apply

SCHEMAS = ("app", "Odd Schema")
#: Its identity is an index without the primary key: refused.
REFUSED = frozenset({"app.ri_index"})
SCENARIOS = ["scenario-A-full", "scenario-C-noschemas"]


def stream(name: str) -> list[Recorded]:
    """The events of a scenario without those of snapshots."""
    return [event for event in recorded.events(name) if event.payload.get("op") != "r"]


def revisions() -> list[str]:
    """The DDL of the stream, as revisions for the closed side."""
    text = re.sub(r"--.*", "", (recorded.DATA / "03_scenario_stream.sql").read_text())
    statements = (one.strip() for one in text.split(";"))
    return [one for one in statements if one.startswith(("alter ", "create "))]


def follow(conn: Connection, name: str) -> list[Transaction]:
    """Decode and apply a scenario; where the shape does not fit, write the next revision and go on from there."""
    pending, applied = revisions(), []
    decoder = Decoder(recorded.tables(conn, *SCHEMAS), recorded.encoding(name))
    resume, offset, events = 0, 0, stream(name)
    while offset < len(events):
        try:
            done = decoder.record(events[offset].value, events[offset].headers, offset)
        except (SchemaMismatch, Undecodable):  # without schemas, another type shows by its values only
            conn.execute(pending.pop(0).encode())
            decoder = Decoder(recorded.tables(conn, *SCHEMAS), recorded.encoding(name), decoder.end_lsn)
            offset = resume
            continue
        offset += 1
        if isinstance(done, Transaction):
            apply(conn, done, skip=REFUSED)
            applied.append(done)
            resume = done.ordinal
    return applied


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_gives_the_same_tables(name: str, new_database: Callable[[int, Side], Database]) -> None:
    source, target = new_database(15, Side.SHARED), new_database(15, Side.SERVICE)
    for database in (source, target):
        recorded.run_sql(database, "03_scenario_schema.sql")
    recorded.run_sql(source, "03_scenario_stream.sql")
    with source.connect("test") as there, target.connect("test", session_replication_role="replica") as here:
        there.execute("INSERT INTO app.zz_done VALUES (1)")
        applied = follow(here, name)
        expected, held = recorded.tables(there, *SCHEMAS), recorded.tables(here, *SCHEMAS)
        assert held.keys() == expected.keys()
        for table in expected.values():
            if str(table.name) not in {*REFUSED, "app.debezium_signal"}:
                order = f' ORDER BY "{table.columns[0].name}"'
                assert recorded.texts(here, held[table.name], order) == recorded.texts(there, table, order), table.name
    assert [t.end_lsn for t in applied] == sorted({t.end_lsn for t in applied})
    assert all(t.commit_lsn < t.end_lsn for t in applied)


def transactions(name: str, conn: Connection) -> list[Transaction | Idle]:
    """The events of a scenario up to its DDL."""
    decoder = Decoder(recorded.tables(conn, *SCHEMAS), recorded.encoding(name))
    found: list[Transaction | Idle] = []
    for offset, event in enumerate(stream(name)):
        try:
            done = decoder.record(event.value, event.headers, offset)
        except SchemaMismatch:
            return found
        if done:
            found.append(done)
    return found


@pytest.fixture
def conn(new_database: Callable[[int, Side], Database]) -> Connection:
    database = new_database(15, Side.SHARED)
    recorded.run_sql(database, "03_scenario_schema.sql")
    return database.connect("test")


@pytest.mark.parametrize("name", SCENARIOS)
def test_shapes_of_changes(name: str, conn: Connection) -> None:
    found = [one for one in transactions(name, conn) if isinstance(one, Transaction)]
    changes = [change for one in found for change in one.changes]
    default = [c for c in changes if isinstance(c, Update) and c.relation.table == TableName("app", "pk_default")]
    # Unchanged TOAST is never NULL and never the placeholder, also where the key changes.
    assert default[0].new == [b"10", b"TEN", b"10.00", UNCHANGED]
    assert default[3].old == [b"11", None, None, None]
    assert default[3].new == [b"12", b"eleven", b"11.00", UNCHANGED]
    assert not default[3].old_is_full
    full = [c for c in changes if isinstance(c, Update) and c.relation.table == TableName("app", "ri_full")]
    assert full[1].new[2] is None
    assert full[1].old is not None
    assert full[1].old[2] == b"10.00"
    assert [u.old_is_full for u in full] == [True, True, True]
    assert full[2].new[0] == b"11"
    [truncate] = [c for c in changes if isinstance(c, Truncate)]
    assert [r.table.name for r in truncate.relations] == ["child", "parent"]
    messages = [c for c in changes if isinstance(c, Message)]
    assert [(m.prefix, m.content) for m in messages] == [
        ("my-prefix", b"transactional text"), ("bin", b"\x00\xff\x10"), ("outbox", b'{"k":1}'),
    ]  # fmt: skip
    [mixed] = [t for t in found if len(list(t.changes)) == 2 and isinstance(list(t.changes)[1], Message)]
    assert isinstance(next(iter(mixed.changes)), Insert)
    odd = [c for c in changes if isinstance(c, Insert) and c.relation.table == TableName("Odd Schema", "Odd Täble.x")]
    assert odd[0].new == [b"2", b"kw", b"sp ace", "ü".encode()]


@pytest.mark.parametrize("name", SCENARIOS)
def test_ends_of_transactions(name: str, conn: Connection) -> None:
    """END's LSN is what the connector then calls the last commit: the end of the commit record."""
    found = transactions(name, conn)
    ends = {one.end_lsn for one in found if isinstance(one, Transaction)}
    told = {json.loads(e.payload["source"]["sequence"])[0] for e in stream(name) if "source" in e.payload}
    assert len(ends & {int(lsn) for lsn in told if lsn}) > 30


def test_a_message_outside_of_transactions_tells_how_far_the_stream_is(conn: Connection) -> None:
    found = transactions("scenario-C-noschemas", conn)
    [idle] = [one for one in found if isinstance(one, Idle)]
    before, after = found[found.index(idle) - 1], found[found.index(idle) + 1]
    assert isinstance(before, Transaction)
    assert isinstance(after, Transaction)
    assert before.end_lsn < idle.lsn < after.end_lsn


def test_rows_of_snapshots_stop_the_stream(conn: Connection) -> None:
    for name, marker in (("scenario-A-full", "first"), ("scenario-A-full", "incremental")):
        decoder = Decoder(recorded.tables(conn, *SCHEMAS), recorded.encoding(name))
        event = next(e for e in recorded.events(name) if (e.payload.get("source") or {}).get("snapshot") == marker)
        with pytest.raises(Undecodable, match="a row of a snapshot") as stopped:
            decoder.record(event.value, event.headers, 0)
        assert "no_data" in stopped.value.next_step


def test_an_identity_index_beside_the_key_is_refused(conn: Connection) -> None:
    tables = recorded.tables(conn, *SCHEMAS)
    assert {str(t.name) for t in tables.values() if table_refusal(t)} == REFUSED


def test_without_transaction_metadata_nothing_is_guessed(conn: Connection) -> None:
    decoder = Decoder(recorded.tables(conn, *SCHEMAS), recorded.encoding("scenario-B-defaults"))
    event = stream("scenario-B-defaults")[0]
    with pytest.raises(Undecodable, match="outside of it"):
        decoder.record(event.value, event.headers, 0)
