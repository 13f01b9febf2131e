"""The embedded source against real servers: exact restarts, refusals, feedback, broken connections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import conninfo

from cdc.events import Idle, Insert, Transaction
from cdc.source.embedded import EmbeddedSource
from cdc.source.slots import (
    PublicationMissing,
    SlotActive,
    create_publication,
    create_slot,
    drop_publication,
    drop_slot,
    slot_status,
)
from cdc.source.spool import SpoolFull
from cdc.source.start import options
from contexts.databases import Database
from contexts.embedded import Server, available_majors
from contexts.errors import DatabaseUnreachable, RefusedError, SlotLost
from contexts.model import Side, TableName
from tests.conftest import MAJORS, need, server_folder
from tests.source.upstream import (
    PUBLICATION,
    Upstream,
    idle_at,
    next_event,
    until_mark,
)
from tests.waiting import wait_until


@pytest.fixture
def table(upstream: Upstream) -> Upstream:
    upstream.run("CREATE TABLE public.t (id int PRIMARY KEY, pad text)")
    return upstream


@pytest.fixture
def table16(upstream16: Upstream) -> Upstream:
    upstream16.run("CREATE TABLE public.t (id int PRIMARY KEY, pad text)")
    return upstream16


def transaction(event: object) -> Transaction:
    assert isinstance(event, Transaction)
    return event


def first_id(found: Transaction) -> bytes:
    change = next(iter(found.changes))
    assert isinstance(change, Insert)
    assert isinstance(change.new[0], bytes)
    return change.new[0]


def is_transaction(event: object) -> bool:
    return isinstance(event, Transaction)


def test_a_restart_goes_on_exactly_at_the_position(table: Upstream) -> None:
    start = table.publish("t")
    table.run(*(f"INSERT INTO public.t VALUES ({n})" for n in range(10)))
    table.mark()
    with table.open(start) as source:
        every = [(t.commit_lsn, t.end_lsn) for t, _ in until_mark(source)]
    assert len(every) == 10
    assert all(commit < end for commit, end in every)
    for done in (1, 5, 10):
        position = replace(start, end_lsn=every[done - 1][1])
        with table.open(position) as source:
            assert [(t.commit_lsn, t.end_lsn) for t, _ in until_mark(source)] == every[done:]
            source.acknowledge(position.end_lsn)
            wait_until(lambda position=position: table.confirmed() == position.end_lsn)  # type: ignore[misc]


def test_the_slot_advances_only_by_acknowledgement(table: Upstream) -> None:
    start = table.publish("t")
    with table.open(start, status_interval_s=0.05) as source:
        table.run("INSERT INTO public.t VALUES (1)", "INSERT INTO public.t VALUES (2)")
        one = transaction(next_event(source, is_transaction))
        two = transaction(next_event(source, is_transaction))
        idle_at(source, two.end_lsn)
        replied = f"SELECT reply_time FROM pg_stat_replication WHERE application_name = 'carveout/stream/{table.slot}'"
        for _ in range(3):  # three more status messages, each after the keepalives
            before = table.value(replied)
            wait_until(lambda before=before: table.value(replied) > before)  # type: ignore[misc]
        assert table.confirmed() == start.end_lsn
        source.acknowledge(one.end_lsn)
        wait_until(lambda: table.confirmed() == one.end_lsn)
        source.acknowledge(start.end_lsn)  # never back
        source.acknowledge(two.end_lsn)
    wait_until(lambda: table.confirmed() == two.end_lsn)  # the last word is sent at the close


def test_idle_tells_how_far_an_idle_stream_has_come(table: Upstream) -> None:
    start = table.publish("t")
    table.run("CREATE TABLE public.unpublished AS SELECT generate_series(1, 100)")
    with table.open(start) as source:
        reached = idle_at(source, table.flushed_lsn() - 8)
        assert reached.lsn > start.end_lsn
        source.request_idle()
        assert isinstance(next_event(source), Idle)  # also where there is nothing new to say
        source.acknowledge(reached.lsn)
        wait_until(lambda: table.confirmed() == reached.lsn)
    table.run("INSERT INTO public.t VALUES (1)")
    assert len(table.changes(replace(start, end_lsn=reached.lsn))) == 1


def test_an_idle_event_waits_behind_what_is_queued(table16: Upstream) -> None:
    start = table16.publish("t")
    with table16.open(start, queue_bytes=1) as source:
        table16.run(*(f"INSERT INTO public.t VALUES ({n})" for n in range(3)))
        source.request_idle()
        found = [next_event(source, is_transaction) for _ in range(3)]
        assert [first_id(transaction(t)) for t in found] == [b"0", b"1", b"2"]
        assert idle_at(source, transaction(found[-1]).end_lsn).lsn >= transaction(found[-1]).end_lsn


def test_the_server_is_answered_while_nobody_polls(table: Upstream) -> None:
    name = conninfo.conninfo_to_dict(table.database.url)["dbname"]
    table.run(f"ALTER DATABASE \"{name}\" SET wal_sender_timeout = '2s'")
    start = table.publish("t")
    with table.open(start, queue_bytes=1_000) as source:
        pid = slot_status(table.conn, table.slot).active_pid
        # Far more than the socket's buffers hold: the server is stuck in sending, and we do not read.
        table.run(*(f"INSERT INTO public.t SELECT n, repeat('x', 1000) FROM generate_series({n * 2000}, "
                    f"{n * 2000 + 1999}) n" for n in range(20)))  # fmt: skip
        table.mark()
        old = f"SELECT clock_timestamp() - backend_start > '5s' FROM pg_stat_activity WHERE pid = {pid}"
        wait_until(lambda: table.value(old))
        assert len(until_mark(source)) == 20
        assert slot_status(table.conn, table.slot).active_pid == pid


def test_a_broken_connection_is_transient_and_comes_after_what_was_received(table: Upstream) -> None:
    start = table.publish("t")
    with table.open(start) as source:
        table.run("INSERT INTO public.t VALUES (1)")
        first = transaction(next_event(source, is_transaction))
        assert first_id(first) == b"1"
        table.run(f"SELECT pg_terminate_backend({slot_status(table.conn, table.slot).active_pid})")
        with pytest.raises(DatabaseUnreachable, match="the stream broke") as caught:
            next_event(source, is_transaction)
        assert caught.value.transient
        with pytest.raises(DatabaseUnreachable):
            source.poll(0)
    source.close()  # again: nothing to do
    wait_until(lambda: not slot_status(table.conn, table.slot).active)
    assert len(table.changes(start)) == 1


def test_an_error_while_spooling_surfaces_in_poll_and_loses_nothing(table16: Upstream) -> None:
    start = table16.publish("t")
    table16.spool.write_text("a file where the folder should be")
    table16.run(  # one that begins with a message is not taken while it is received
        "BEGIN", "SELECT pg_logical_emit_message(true, 'p', 'm')",
        "INSERT INTO public.t SELECT n, repeat('x', 100) FROM generate_series(1, 1000) n", "COMMIT",
    )  # fmt: skip
    with table16.open(start, memory_bytes=1000) as source, pytest.raises(SpoolFull):
        next_event(source, is_transaction)
    assert table16.confirmed() == start.end_lsn
    table16.spool.unlink()
    assert len(table16.changes(start, memory_bytes=1000)) == 1001


def test_another_server_or_timeline_is_refused(table16: Upstream) -> None:
    start = table16.publish("t")
    with pytest.raises(SlotLost, match="was on the server with system identifier 1;"):
        table16.source(replace(start, system_identifier="1"))
    with pytest.raises(SlotLost, match="was on timeline 2; the server is on 1"):
        table16.source(replace(start, timeline=2))
    assert not slot_status(table16.conn, table16.slot).active


def test_a_dropped_slot_is_refused(table: Upstream) -> None:
    start = table.publish("t")
    drop_slot(table.conn, table.slot)
    with pytest.raises(SlotLost, match=f"slot '{table.slot}' does not exist"):
        table.source(start)


def test_a_slot_that_was_made_again_is_refused(table: Upstream) -> None:
    start = table.publish("t")
    drop_slot(table.conn, table.slot)
    table.run("INSERT INTO public.t VALUES (1)")
    create_slot(table.conn, table.slot)
    with pytest.raises(SlotLost, match="ahead of the stored position"):
        table.source(start)
    assert not slot_status(table.conn, table.slot).active


def test_a_slot_that_was_advanced_is_refused(table: Upstream) -> None:
    start = table.publish("t")
    table.run("INSERT INTO public.t VALUES (1)")
    table.run(f"SELECT pg_replication_slot_advance('{table.slot}', pg_current_wal_lsn())")
    with pytest.raises(SlotLost, match="ahead of the stored position"):
        table.source(start)


def test_a_slot_in_use_is_refused_with_its_reader(table: Upstream) -> None:
    start = table.publish("t")
    with table.open(start):
        pid = slot_status(table.conn, table.slot).active_pid
        with pytest.raises(SlotActive, match=f"pid {pid}"):
            table.source(start)
    table.source(start).close()


def test_foreign_slots_are_refused(table16: Upstream, new_upstream: Callable[[int], Upstream]) -> None:
    start = table16.publish("t")
    other = new_upstream(16)
    other.run("CREATE TABLE public.t (id int PRIMARY KEY)")
    create_publication(other.conn, PUBLICATION, [TableName("public", "t")])
    with pytest.raises(SlotLost, match="not made by us"):
        other.source(start)
    table16.run(f"SELECT pg_create_logical_replication_slot('{table16.slot}_2', 'pgoutput', false, true)")
    two_phase = slot_status(table16.conn, f"{table16.slot}_2")
    assert two_phase.confirmed_flush_lsn is not None
    with pytest.raises(RefusedError, match="PREPARE"):
        table16.source(replace(start, slot=two_phase.name, end_lsn=two_phase.confirmed_flush_lsn))


def test_a_missing_publication_is_refused(table: Upstream) -> None:
    start = table.publish("t")
    drop_publication(table.conn, PUBLICATION)
    with pytest.raises(PublicationMissing, match="does not exist"):
        table.source(start)


def test_a_publication_made_after_its_slot_stops_the_stream(table: Upstream) -> None:
    start = table.publish("t")
    drop_publication(table.conn, PUBLICATION)
    drop_slot(table.conn, table.slot)
    lsn = create_slot(table.conn, table.slot)
    table.run("INSERT INTO public.t VALUES (1)")
    create_publication(table.conn, PUBLICATION, [TableName("public", "t")])
    table.run("INSERT INTO public.t VALUES (2)")
    with table.open(replace(start, end_lsn=lsn)) as source, pytest.raises(PublicationMissing):
        next_event(source, is_transaction)


def test_protocol_options_by_version() -> None:
    assert [options(major, "p")["proto_version"] for major in (14, 15, 16, 17, 18)] == ["2", "3", "4", "4", "4"]
    assert options(16, 'a"b')["publication_names"] == '"a""b"'


def test_an_oddly_named_publication(table16: Upstream) -> None:
    table16.conn.execute("""CREATE PUBLICATION "Odd, 'Pub"" \\" FOR TABLE public.t""")
    start = table16.publish("t")
    table16.run("INSERT INTO public.t VALUES (1)")
    table16.mark()
    odd = "Odd, 'Pub\" \\"
    with closing(EmbeddedSource(table16.database, odd, start, spool_dir=table16.spool, memory_bytes=1000)) as source:
        assert len(until_mark(source)) == 1


@pytest.fixture(params=MAJORS)
def small_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Upstream]:
    """A server of its own that keeps almost no log for slots."""
    major = request.param
    need(f"postgres{major}", major in available_majors(), "install that PostgreSQL server")
    settings = {"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}
    with server_folder() as folder, Server(folder, major, settings) as server:
        database = Database(Side.SHARED, server.url())
        with database.connect("test") as conn:
            yield Upstream(database, tmp_path, conn, "slot_small")


def lose_log(upstream: Upstream) -> None:
    for n in range(4):
        upstream.run(f"CREATE TABLE public.w{n} AS SELECT 1", "SELECT pg_switch_wal()")
    upstream.run("CHECKPOINT")


def test_an_invalidated_slot_is_refused_with_the_reason(small_server: Upstream) -> None:
    small_server.run("CREATE TABLE public.t (id int PRIMARY KEY)")
    start = small_server.publish("t")
    lose_log(small_server)
    status = slot_status(small_server.conn, small_server.slot)
    assert (status.wal_status, status.invalidation_reason) == ("lost", "wal_removed")
    with pytest.raises(SlotLost, match="invalidated by the server: wal_removed"):
        small_server.source(start)


def test_threads_end_with_their_source(table16: Upstream) -> None:
    before = threading.active_count()
    start = table16.publish("t")
    for _ in range(3):
        table16.source(start).close()
    assert threading.active_count() == before
