"""Copies of a slot: there is one to go back to, never more than two, and none outlives its session."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from cdc.kafka import anchor
from cdc.kafka.anchor import Anchor
from cdc.lsn import parse_lsn
from cdc.source import slots
from contexts.databases import Connection, Database
from contexts.model import Side
from tests.waiting import wait_until

SLOT = "carveout_anchored_1"


@pytest.fixture(params=[14, 18])
def database(
    new_database: Callable[[int, Side], Database], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Database]:
    monkeypatch.setattr(anchor, "EVERY_S", 0.0)
    monkeypatch.setattr(anchor, "AFTER_FAILURE_S", 0.0)
    made = new_database(request.param, Side.SHARED)
    with made.connect("test") as conn:
        conn.execute("CREATE TABLE public.t (id int)")
        conn.execute("CREATE PUBLICATION p FOR TABLE public.t")
        slots.create_slot(conn, SLOT)
        yield made
        slots.drop_slot(conn, SLOT)


@pytest.fixture
def conn(database: Database) -> Iterator[Connection]:
    with database.connect("test") as conn:
        yield conn


@pytest.fixture
def kept(database: Database) -> Iterator[Anchor]:
    made = Anchor(database, SLOT)
    yield made
    made.close()


def write(conn: Connection) -> int:
    """Commit something; where the log ends then."""
    conn.execute("INSERT INTO public.t VALUES (1)")
    row = conn.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    return parse_lsn(row[0])


def tell(conn: Connection, lsn: int) -> None:
    """What the connector does once Kafka has everything up to there."""
    conn.execute("SELECT pg_replication_slot_advance(%s, '0/0'::pg_lsn + %s)", (SLOT, lsn))


def stands(conn: Connection) -> int:
    found = slots.slot_status(conn, SLOT).confirmed_flush_lsn
    assert found is not None
    return found


def copies(conn: Connection) -> int:
    row = conn.execute("SELECT count(*) FROM pg_replication_slots WHERE slot_name ~ %s", (SLOT + "_at_",)).fetchone()
    assert row is not None
    return int(row[0])


def test_the_slot_goes_back_to_what_is_applied(kept: Anchor, conn: Connection) -> None:
    kept.follow(applied := stands(conn))
    tell(conn, write(conn))
    assert stands(conn) > applied
    assert kept.reaches(applied)
    assert kept.restore(applied)
    assert stands(conn) <= applied
    inserts = conn.execute(
        "SELECT count(*) FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL, 'proto_version', '1',"
        " 'publication_names', 'p') WHERE get_byte(data, 0) = ascii('I')",
        (SLOT,),
    )
    assert inserts.fetchone() == (1,)


def test_a_later_copy_takes_over_once_everything_before_it_is_applied(kept: Anchor, conn: Connection) -> None:
    kept.follow(begun := stands(conn))
    for _ in range(3):  # the worker is behind: what is applied stays
        tell(conn, write(conn))
        kept.follow(begun)
        assert kept.reaches(begun)
        assert copies(conn) == 2
    kept.follow(stands(conn))
    assert not kept.reaches(begun)
    assert kept.reaches(stands(conn))
    assert copies(conn) <= 2
    assert not kept.restore(begun)


def test_without_a_copy_nothing_is_changed(kept: Anchor, conn: Connection) -> None:
    before = stands(conn)
    tell(conn, write(conn))
    kept.follow(before)  # begun too late: its copies stand behind what is applied
    assert not kept.reaches(before)
    assert not kept.restore(before)
    assert stands(conn) > before


def test_a_worker_far_behind_keeps_no_log(kept: Anchor, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor, "MOST_KEPT", 100)
    kept.follow(begun := stands(conn))
    for _ in range(5):
        tell(conn, write(conn))
    kept.follow(begun)
    assert not kept.reaches(begun)
    assert copies(conn) == 1, "a new one, from here on"


def test_the_last_slots_are_left_to_others(kept: Anchor, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    free = conn.execute("SELECT current_setting('max_replication_slots')::int - count(*) FROM pg_replication_slots")
    row = free.fetchone()
    assert row is not None
    monkeypatch.setattr(anchor, "LEFT_FREE", row[0] - 1)
    kept.follow(begun := stands(conn))
    tell(conn, write(conn))
    kept.follow(begun)
    assert copies(conn) == 1


def test_they_end_with_their_session(kept: Anchor, conn: Connection) -> None:
    kept.follow(begun := stands(conn))
    conn.execute(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name ~ %s", (SLOT + "_at_",)
    )
    wait_until(lambda: copies(conn) == 0)
    tell(conn, write(conn))
    assert not kept.restore(begun)
    assert stands(conn) > begun
    kept.follow(stands(conn))
    assert copies(conn) == 1


def test_a_slot_that_is_gone_is_no_error(kept: Anchor, conn: Connection) -> None:
    kept.follow(begun := stands(conn))
    slots.drop_slot(conn, SLOT)
    kept.follow(begun)
    assert not kept.reaches(begun)
    with pytest.raises(psycopg.errors.UndefinedObject):
        tell(conn, 1)
