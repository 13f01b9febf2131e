"""Slots and publications on real servers."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import conninfo, sql

from cdc.events import Insert
from cdc.lsn import parse_lsn
from cdc.source.slots import (
    PublicationMissing,
    SlotActive,
    SlotBlocked,
    create_publication,
    create_slot,
    creation_sql,
    drop_publication,
    drop_slot,
    export_slot,
    publication_exists,
    slot_status,
)
from cdc.state.position import Position
from contexts.databases import Database
from contexts.embedded import Server, available_majors
from contexts.errors import AccessDenied, DatabaseUnreachable, RefusedError
from contexts.model import Side, TableName
from tests.conftest import need, server_folder
from tests.source.upstream import DEADLINE_S, PUBLICATION, Upstream
from tests.waiting import wait_until

T = TableName("public", "t")


@pytest.mark.parametrize("temporary", [True, False])
def test_the_snapshot_and_the_slot_share_one_moment(upstream: Upstream, temporary: bool) -> None:
    upstream.run("CREATE TABLE public.t (id int PRIMARY KEY)")
    create_publication(upstream.conn, PUBLICATION, [T])
    upstream.run("INSERT INTO public.t VALUES (1)")
    with export_slot(
        upstream.database, upstream.slot, temporary=temporary, timeout_s=DEADLINE_S, publication=PUBLICATION
    ) as slot:
        upstream.run("INSERT INTO public.t VALUES (2)")
        with upstream.database.connect("copy") as copy:
            copy.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            copy.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(slot.snapshot)))
            assert copy.execute("SELECT array_agg(id) FROM public.t").fetchone() == ([1],)
        status = slot_status(upstream.conn, upstream.slot)
        assert (status.exists, status.temporary, status.plugin) == (True, temporary, "pgoutput")
        assert status.confirmed_flush_lsn == slot.consistent_point
        identifier = upstream.value("SELECT system_identifier::text FROM pg_control_system()")
        assert (slot.system_identifier, slot.timeline) == (identifier, 1)
    assert slot_status(upstream.conn, upstream.slot).exists is not temporary
    slot.close()  # again: nothing to do
    if not temporary:
        position = Position(slot.system_identifier, slot.timeline, slot.name, slot.consistent_point)
        assert [c.new for c in upstream.changes(position) if isinstance(c, Insert)] == [[b"2"]]


def test_the_snapshot_outlives_time_limits_of_the_server(upstream: Upstream) -> None:
    name = conninfo.conninfo_to_dict(upstream.database.url)["dbname"]
    limits = ["idle_in_transaction_session_timeout", "idle_session_timeout", "statement_timeout"]
    if upstream.conn.info.server_version >= 170000:
        limits.append("transaction_timeout")
    for limit in limits:
        upstream.run(f"ALTER ROLE postgres IN DATABASE \"{name}\" SET {limit} = '50ms'")
    with export_slot(upstream.database, upstream.slot, temporary=True, timeout_s=DEADLINE_S) as slot:
        pid = slot_status(upstream.conn, upstream.slot).active_pid
        held = "SELECT clock_timestamp() - backend_start > '500ms' FROM pg_stat_activity WHERE pid = "
        wait_until(lambda: upstream.value(f"{held} {pid}"))
        with upstream.database.connect("copy", autocommit=False) as copy:
            copy.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            copy.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(slot.snapshot)))


def test_a_slot_that_waits_too_long_names_its_blockers(upstream: Upstream) -> None:
    url = upstream.database.url
    with psycopg.connect(url, application_name="billing nightly") as billing:
        billing.execute("CREATE TABLE public.blocking ()")  # an open transaction that has written
        pid = billing.info.backend_pid
        with pytest.raises(SlotBlocked) as caught:
            export_slot(upstream.database, upstream.slot, temporary=False, timeout_s=0.3)
        error = caught.value
        assert f"pid {pid} (role 'postgres', application 'billing nightly'" in error.message
        assert "within 0.3 s" in error.message
        (blocker,) = [b for b in error.blockers if b.who == f"pid {pid}"]
        assert blocker.age_s is not None
        assert blocker.age_s >= 0.3
        assert error.transient
        with pytest.raises(SlotBlocked, match="billing nightly"):
            create_slot(upstream.conn, upstream.slot, timeout_s=0.3)
        assert billing.execute("SELECT 1").fetchone() == (1,)
        assert not slot_status(upstream.conn, upstream.slot).exists
    export_slot(upstream.database, upstream.slot, temporary=False, timeout_s=DEADLINE_S).close()
    assert slot_status(upstream.conn, upstream.slot).exists
    assert upstream.value("SELECT current_setting('statement_timeout')") == "0"


def test_a_prepared_transaction_is_named_as_a_blocker(upstream: Upstream) -> None:
    gid = f"odd 'gid' {upstream.slot}"
    quoted = gid.replace("'", "''")
    upstream.run(f"BEGIN; CREATE TABLE public.blocking (); PREPARE TRANSACTION '{quoted}'")
    try:
        with pytest.raises(SlotBlocked, match="prepared transaction 'odd ''gid''"):
            export_slot(upstream.database, upstream.slot, temporary=True, timeout_s=0.3)
        assert not slot_status(upstream.conn, upstream.slot).exists
    finally:
        upstream.run(f"ROLLBACK PREPARED '{quoted}'")


def test_an_existing_slot_is_left_alone(upstream16: Upstream) -> None:
    first = create_slot(upstream16.conn, upstream16.slot)
    with pytest.raises(RefusedError, match="exists already"):
        create_slot(upstream16.conn, upstream16.slot)
    for temporary in (True, False):
        with pytest.raises(RefusedError, match="exists already"):
            export_slot(upstream16.database, upstream16.slot, temporary=temporary, timeout_s=DEADLINE_S)
    assert slot_status(upstream16.conn, upstream16.slot).confirmed_flush_lsn == first


def test_a_slot_before_its_publication_is_refused(upstream16: Upstream) -> None:
    with pytest.raises(PublicationMissing, match="must be made after its publication"):
        create_slot(upstream16.conn, upstream16.slot, publication="nope")
    with pytest.raises(PublicationMissing, match="must be made after its publication"):
        export_slot(upstream16.database, upstream16.slot, temporary=True, timeout_s=1, publication="nope")
    assert not slot_status(upstream16.conn, upstream16.slot).exists


def test_status_of_a_slot(upstream: Upstream) -> None:
    missing = slot_status(upstream.conn, upstream.slot)
    assert (missing.exists, missing.active, missing.confirmed_flush_lsn) == (False, False, None)
    upstream.run("CREATE TABLE public.t (id int PRIMARY KEY)")
    position = upstream.publish("t")
    upstream.run("INSERT INTO public.t SELECT generate_series(1, 1000)")
    status = slot_status(upstream.conn, upstream.slot)
    assert (status.exists, status.active, status.wal_status, status.invalidation_reason) == (
        True, False, "reserved", None,
    )  # fmt: skip
    assert status.confirmed_flush_lsn == position.end_lsn
    assert status.restart_lsn is not None
    assert status.restart_lsn <= position.end_lsn
    wal = parse_lsn(upstream.value("SELECT pg_current_wal_lsn()::text"))
    assert status.lag_bytes is not None
    assert 1000 < status.lag_bytes <= wal - position.end_lsn
    assert (status.two_phase, status.temporary) == (False, False)
    assert status.database == upstream.conn.info.dbname


def test_dropping_is_idempotent_and_ends_no_session(upstream: Upstream) -> None:
    upstream.run("CREATE TABLE public.t (id int PRIMARY KEY)")
    position = upstream.publish("t")
    with upstream.open(position) as source:
        pid = slot_status(upstream.conn, upstream.slot).active_pid
        with pytest.raises(SlotActive, match=f"pid {pid}"):
            drop_slot(upstream.conn, upstream.slot, wait_s=0.1)
        upstream.mark()
        assert source.poll(DEADLINE_S) is not None
        assert slot_status(upstream.conn, upstream.slot).active_pid == pid
    drop_slot(upstream.conn, upstream.slot)
    assert not slot_status(upstream.conn, upstream.slot).exists
    drop_slot(upstream.conn, upstream.slot)


def test_a_publication_is_made_once_and_never_changed(upstream16: Upstream) -> None:
    conn = upstream16.conn
    odd = TableName("Odd Schema", 'o"dd.table')
    upstream16.run(
        'CREATE SCHEMA "Odd Schema"', 'CREATE TABLE "Odd Schema"."o""dd.table" (id int PRIMARY KEY)',
        "CREATE TABLE public.t (id int PRIMARY KEY)", "CREATE TABLE public.child () INHERITS (public.t)",
    )  # fmt: skip
    for _ in range(2):
        create_publication(conn, "Odd Pub", [odd, T])
    published = conn.execute("SELECT tablename FROM pg_publication_tables WHERE pubname = 'Odd Pub'").fetchall()
    assert {name for (name,) in published} == {'o"dd.table', "t"}
    with pytest.raises(RefusedError, match="publishes other tables"):
        create_publication(conn, "Odd Pub", [T])
    for other in ("publish_via_partition_root = true", "publish = 'insert'"):
        drop_publication(conn, "Odd Pub")
        conn.execute(sql.SQL('CREATE PUBLICATION "Odd Pub" FOR TABLE ONLY public.t WITH ({})').format(sql.SQL(other)))
        with pytest.raises(RefusedError, match="not all of their changes"):
            create_publication(conn, "Odd Pub", [T])
    drop_publication(conn, "Odd Pub")
    for part in ("public.t (id)", "public.t WHERE (id > 1)"):
        conn.execute(sql.SQL('CREATE PUBLICATION "Odd Pub" FOR TABLE ONLY {}').format(sql.SQL(part)))
        with pytest.raises(RefusedError, match="not all of their changes"):
            create_publication(conn, "Odd Pub", [T])
        drop_publication(conn, "Odd Pub")
    drop_publication(conn, "Odd Pub")
    assert not publication_exists(conn, "Odd Pub")
    with pytest.raises(RefusedError, match="no tables"):
        create_publication(conn, "Odd Pub", [])


def test_the_command_speaks_each_servers_language(upstream: Upstream) -> None:
    old = creation_sql(14, "s", temporary=True).as_string()
    assert old == 'CREATE_REPLICATION_SLOT "s" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT'
    new = creation_sql(15, "s", temporary=False).as_string()
    assert new == "CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput (SNAPSHOT 'export')"


@pytest.mark.parametrize(
    ("settings", "reason", "step"),
    [
        ({"max_replication_slots": "1"}, "all replication slots are in use", "max_replication_slots"),
        ({"wal_level": "replica"}, "wal_level", "wal_level = logical"),
    ],
)
def test_a_server_without_room_for_a_slot_is_named(settings: dict[str, str], reason: str, step: str) -> None:
    need("postgres16", 16 in available_majors(), "install that PostgreSQL server")
    with server_folder() as folder, Server(folder, 16, settings) as server:
        database = Database(Side.SHARED, server.url())
        with database.connect("test") as conn:
            if "wal_level" not in settings:
                create_slot(conn, "taken")
            for refused in (
                lambda: create_slot(conn, "s"),
                lambda: export_slot(database, "s", temporary=True, timeout_s=DEADLINE_S),
            ):
                with pytest.raises(RefusedError, match=f"slot 's' could not be made: .*{reason}") as caught:
                    refused()
                assert step in caught.value.next_step


def test_a_role_that_may_not_replicate_is_told_so(upstream: Upstream) -> None:
    name = f"plain_{upstream.slot}"
    upstream.run(f"CREATE ROLE {name} LOGIN")
    try:
        plain = Database(Side.SHARED, conninfo.make_conninfo(upstream.database.url, user=name))
        with plain.connect("test") as conn:
            for refused in (
                lambda: create_slot(conn, upstream.slot),
                lambda: export_slot(plain, upstream.slot, temporary=True, timeout_s=1),
            ):
                with pytest.raises(AccessDenied) as caught:
                    refused()
                assert "REPLICATION" in caught.value.next_step
    finally:
        upstream.run(f"DROP ROLE {name}")


def test_no_password_in_an_error() -> None:
    database = Database(Side.SHARED, "postgresql://u:topsecret@127.0.0.1:1/d")
    with pytest.raises(DatabaseUnreachable) as caught:
        export_slot(database, "s", temporary=True, timeout_s=1)
    assert "topsecret" not in "\n".join(caught.value.lines())
