"""Batches, positions, markers, and what happens when something fails in the middle."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg
import pytest

from cdc.apply import Applier, Marker
from cdc.apply.failures import TargetBusy
from cdc.events import Change, Insert, Relation, RelationColumn, Transaction, Update
from cdc.state.position import Fenced
from contexts.databases import Database
from contexts.errors import AccessDenied, CarveoutError, DatabaseUnreachable, StreamStopped
from contexts.model import Options, Side, TableName
from tests.apply.conftest import OPTIONS, STREAM, World

T = "CREATE TABLE t (id int PRIMARY KEY, v text)"


def stored(world: World) -> int:
    row = world.service.execute("SELECT (end_lsn - '0/0')::int8 FROM carveout.position").fetchone()
    assert row is not None
    return int(row[0])


def test_many_transactions_are_one_commit_with_the_position(world: World) -> None:
    world.both(T)
    applier = world.start("t")
    assert not applier.pending
    for number in range(5):
        world.write(f"INSERT INTO t VALUES ({number}, 'a')")
    transactions = world.read()
    for transaction in transactions:
        applier.apply(transaction)
    assert (applier.pending.transactions, applier.pending.rows) == (5, 5)
    assert applier.pending.bytes > 0
    assert (stored(world), world.rows(world.service, "public.t")) == (0, [])
    assert applier.commit() == transactions[-1].end_lsn == stored(world)
    assert len(world.same()) == 5
    assert not applier.pending
    time = world.service.execute("SELECT source_time FROM carveout.position").fetchone()
    assert time == (applier.position.source_time,)
    for transaction in transactions:  # the source sends again what the slot does not know to be durable
        applier.apply(transaction)
    assert not applier.pending
    assert applier.commit() == transactions[-1].end_lsn


@pytest.mark.parametrize(
    ("options", "due"),
    [
        (Options(batch_rows=3, batch_age_ms=3_600_000), True),
        (Options(batch_mb=0.00001, batch_age_ms=3_600_000), True),
        (Options(batch_age_ms=0), True),
        (OPTIONS, False),
    ],
)
def test_each_bound_makes_a_batch_due(world: World, options: Options, due: bool) -> None:
    world.both(T)
    world.start("t", options=options)
    assert not world.applier.is_due()
    world.write("INSERT INTO t SELECT i, 'abc' FROM generate_series(1, 4) i")
    for transaction in world.read():
        world.applier.apply(transaction)
    assert world.applier.is_due() is due


def test_a_large_transaction_flows_through_in_chunks(world: World) -> None:
    world.both("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, v text)")
    world.start("t", "u", options=Options(batch_rows=500, batch_mb=0.05, batch_age_ms=3_600_000))
    world.write(
        "INSERT INTO t SELECT i, repeat('x', i % 300) FROM generate_series(1, 4000) i", "INSERT INTO u SELECT * FROM t",
        "UPDATE t SET v = v || 'y' WHERE id % 3 = 0", "UPDATE u SET id = -id WHERE id % 5 = 0",
        "DELETE FROM t WHERE id % 7 = 0",
    )  # fmt: skip
    (transaction,) = world.read()
    world.applier.apply(transaction)
    held = sum(map(len, world.applier._collector._logs.values()))
    assert held <= 500
    assert world.rows(world.service, "public.t") == []
    world.applier.commit()
    assert len(world.same()) > 7000
    assert world.applier.fallbacks == 0


def test_thousands_of_composite_keys_are_deleted_at_once(world: World) -> None:
    world.both("CREATE TABLE t (a int, b text, PRIMARY KEY (a, b))")
    world.start("t")
    world.write("INSERT INTO t SELECT i, i FROM generate_series(1, 20000) i")
    world.write("DELETE FROM t WHERE a % 4 > 0")
    world.replicate()
    assert len(world.same()) == 5000
    world.write("DELETE FROM t")
    world.replicate()
    assert world.same() == []
    assert world.applier.fallbacks == 0


def test_truncate_empties_exactly_its_tables(world: World) -> None:
    world.both(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id serial PRIMARY KEY, a int REFERENCES a);"
        "CREATE TABLE c (id int PRIMARY KEY)"
    )
    world.start("a", "b", "c")
    world.write("INSERT INTO a VALUES (1), (2)", "INSERT INTO b (a) VALUES (1), (2)", "INSERT INTO c VALUES (1)")
    world.write("TRUNCATE a CASCADE", "INSERT INTO a VALUES (1), (3)", "INSERT INTO b (a) VALUES (3)")
    world.replicate()
    assert len(world.same()) == 4


def test_truncate_of_a_table_that_the_service_alone_refers_to(world: World) -> None:
    world.both("CREATE TABLE a (id int PRIMARY KEY)")
    world.service.execute("CREATE TABLE public.own (a int REFERENCES public.a)")
    world.start("a")
    world.write("INSERT INTO a VALUES (1), (2)")
    world.replicate()
    world.service.execute("INSERT INTO public.own VALUES (1)")
    world.write("TRUNCATE a", "INSERT INTO a VALUES (5)")
    world.replicate()
    assert world.same() == [b"5\n"]
    assert len(world.rows(world.service, "public.own")) == 1


def test_triggers_and_foreign_keys_do_not_fire_twice(world: World) -> None:
    world.both(
        "CREATE TABLE a (id int PRIMARY KEY);"
        "CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE);"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN INSERT INTO public.b VALUES (-new.id); RETURN new; END';"
        "CREATE TRIGGER f AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION f()"
    )
    world.start("a", "b")
    world.write("INSERT INTO a VALUES (1), (2)", "INSERT INTO b VALUES (1, 1), (2, 2)")
    world.write("DELETE FROM a WHERE id = 1")
    world.replicate()
    assert len(world.same()) == 4


def test_a_deferrable_key_in_mid_transaction(world: World, path: str) -> None:
    world.both(
        "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text);"
        "ALTER TABLE t REPLICA IDENTITY FULL;"
        "CREATE TABLE u (id int PRIMARY KEY, n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
    )
    world.start("t", "u")
    world.write("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 6) i")
    world.write("INSERT INTO u SELECT i, i FROM generate_series(1, 6) i")
    world.write("UPDATE t SET id = id + 1", "UPDATE u SET n = n + 1")
    world.replicate()
    world.write("UPDATE t SET id = 9 - id", "UPDATE u SET n = 9 - n", "INSERT INTO t VALUES (1, 'x')")
    world.replicate()
    assert len(world.same()) == 13


def test_a_key_that_only_the_open_side_defers_is_never_written_wrong(world: World, path: str) -> None:
    world.both("CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL")
    world.shared.execute("ALTER TABLE public.t ADD PRIMARY KEY (id) DEFERRABLE")
    world.service.execute("ALTER TABLE public.t ADD PRIMARY KEY (id)")
    world.start("t")
    world.write("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    world.replicate()
    world.write("UPDATE t SET id = id + 1")
    with pytest.raises(StreamStopped, match=r"public\.t \(id\)=\(.\)"):
        world.replicate()
    assert world.rows(world.service, "public.t") == [b"1\ta\n", b"2\tb\n"]


@pytest.mark.parametrize(
    ("drift", "change", "said"),
    [
        ("DELETE FROM public.t WHERE id = 2", "UPDATE t SET v = 'x'", r"update of public\.t \(id\)=\(2\): no row"),
        ("DELETE FROM public.t WHERE id = 2", "DELETE FROM t", r"delete of public\.t \(id\)=\(2\): no row"),
        ("INSERT INTO public.t VALUES (7)", "INSERT INTO t VALUES (6), (7)", r"insert of public\.t \(id\)=\(7\)"),
        ("ALTER TABLE public.t ADD CHECK (v <> 'bad')", "UPDATE t SET v = 'bad' WHERE id = 2", r"t_v_check"),
        (
            "ALTER TABLE public.t DROP CONSTRAINT t_pkey; INSERT INTO public.t VALUES (2)", "UPDATE t SET v = 'x'",
            r"\(id\)=\(2\): 2 rows there",
        ),
    ],
)  # fmt: skip
def test_a_row_that_is_not_as_expected_stops_the_stream(
    world: World, path: str, drift: str, change: str, said: str
) -> None:
    world.both(T)
    world.start("t")
    world.write("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    world.replicate()
    durable = stored(world)
    world.service.execute(drift)
    before = world.rows(world.service, "public.t")
    world.open()
    world.write(change)
    with pytest.raises(StreamStopped, match=said) as raised:
        world.replicate()
    assert "bad" not in str(raised.value)
    assert raised.value.next_step
    assert (stored(world), world.rows(world.service, "public.t")) == (durable, before)


def test_a_missing_and_a_doubled_row_do_not_cancel_out(world: World) -> None:
    world.both(T)
    world.start("t")
    world.write("INSERT INTO t SELECT i, 'a' FROM generate_series(1, 9) i")
    world.replicate()
    world.service.execute("ALTER TABLE public.t DROP CONSTRAINT t_pkey")
    world.service.execute("DELETE FROM public.t WHERE id = 1")
    world.service.execute("INSERT INTO public.t VALUES (2, 'twice')")
    world.open()
    world.write("UPDATE t SET v = 'x'")
    with pytest.raises(StreamStopped, match=r"\(id\)=\(1\): no row"):
        world.replicate()


def test_the_fast_path_works_again_after_it_gave_way(world: World) -> None:
    world.both("CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE)")
    world.start("t")
    world.write("INSERT INTO t SELECT i, i FROM generate_series(1, 9) i")
    world.replicate()
    world.write(
        "UPDATE t SET u = 99 WHERE id = 1", "UPDATE t SET u = 1 WHERE id = 2", "UPDATE t SET u = 2 WHERE id = 1",
        "UPDATE t SET u = u + 100 WHERE id > 5",
    )  # fmt: skip
    world.replicate()
    assert world.applier.fallbacks == 1
    world.write("UPDATE t SET u = u + 1000")
    world.replicate()
    assert world.applier.fallbacks == 1
    assert len(world.same()) == 9


def test_an_applier_that_failed_takes_nothing_more(world: World) -> None:
    world.both(T)
    applier = world.start("t")
    world.write("INSERT INTO t VALUES (1, 'a')")
    world.write("INSERT INTO t VALUES (2, 'b')")
    first, second = world.read()
    world.service.execute("INSERT INTO public.t VALUES (1, 'mine')")
    applier.apply(first)
    with pytest.raises(StreamStopped, match="there already"):
        applier.commit()
    with pytest.raises(StreamStopped, match="ended"):
        applier.apply(second)
    world.service.execute("DELETE FROM public.t")
    again = world.open()
    again.apply(first)
    again.apply(second)
    again.commit()
    assert len(world.same()) == 2


def test_another_worker_fences_this_one_out(world: World) -> None:
    world.both(T)
    former = world.start("t")
    world.write("INSERT INTO t VALUES (1, 'a')")
    transactions = world.read()
    for transaction in transactions:
        former.apply(transaction)
    world.open()
    with pytest.raises(Fenced):
        former.commit()
    assert (stored(world), world.rows(world.service, "public.t")) == (0, [])
    for transaction in transactions:
        world.applier.apply(transaction)
    world.applier.commit()
    assert len(world.same()) == 1


def test_markers_are_committed_with_the_rows_before_them(world: World) -> None:
    world.both(T)
    applier = world.start("t")
    emit = "SELECT pg_logical_emit_message(true, '{}', '{}')"
    world.write(
        "INSERT INTO t VALUES (1, 'a')",
        emit.format("carveout", '{"context": "wallet", "id": "m1", "kind": "fence"}'),
        emit.format("carveout", '{"context": "history", "id": "m2", "kind": "fence"}'),
        emit.format("carveout", "no json"),
        emit.format("carveout", "[1]"),
        emit.format("other", '{"context": "wallet", "id": "m3", "kind": "fence"}'),
    )
    world.service.execute("LISTEN carveout")
    (transaction,) = world.read()
    applier.apply(transaction)
    assert applier.is_due()
    assert world.service.execute("SELECT FROM carveout.marker").fetchall() == []
    applier.commit()
    assert applier.markers == [Marker("m1", "fence", transaction.end_lsn)]
    found = world.service.execute("SELECT context, id, kind, (end_lsn - '0/0')::int8 FROM carveout.marker").fetchall()
    assert found == [("wallet", "m1", "fence", transaction.end_lsn)]
    notices = [notice.payload for notice in world.service.notifies(timeout=10, stop_after=1)]
    assert notices == ['{"context": "wallet", "id": "m1", "kind": "fence"}']
    world.write("INSERT INTO t VALUES (2, 'a')")
    world.replicate()
    assert applier.markers == []


def test_idle_moves_the_position_only_where_nothing_is_open(world: World) -> None:
    world.both(T)
    applier = world.start("t")
    world.write("INSERT INTO t VALUES (1, 'a')")
    (transaction,) = world.read()
    applier.apply(transaction)
    assert applier.idle(transaction.end_lsn + 100) is None
    durable = applier.commit()
    assert applier.idle(durable - 1) == durable
    assert applier.idle(durable + 100) == durable + 100 == stored(world) == applier.position.end_lsn
    assert applier.idle(durable + 200) is None  # a moment ago
    assert applier.idle(durable + (1 << 30)) == durable + (1 << 30) == stored(world)


def test_a_sub_position_is_kept(world: World) -> None:
    world.both(T)
    world.start("t")
    world.write("INSERT INTO t VALUES (1, 'a')")
    for transaction in world.read():
        world.applier.apply(transaction)
    world.applier.commit(ordinal=42)
    world.write("INSERT INTO t VALUES (2, 'a')")
    world.replicate()
    assert world.open().position.ordinal == 42


def test_a_lock_that_somebody_holds_is_named_and_passes(world: World) -> None:
    world.both(T)
    world.start("t")
    world.write("INSERT INTO t VALUES (1, 'a')")
    world.replicate()
    world.write("UPDATE t SET v = 'b'")
    world.applier._conn.execute("SET lock_timeout = 1")
    world.applier._conn.commit()
    with world.service.transaction():
        world.service.execute("LOCK public.t")
        with pytest.raises(TargetBusy) as raised:
            world.replicate()
    assert raised.value.transient


def test_a_broken_connection_is_named_and_passes(world: World) -> None:
    world.both(T)
    world.start("t")
    world.write("INSERT INTO t VALUES (1, 'a')")
    (transaction,) = world.read()
    world.applier.apply(transaction)
    world.service.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'carveout/apply wallet'"
    )
    with pytest.raises(DatabaseUnreachable) as raised:
        world.applier.commit()
    assert raised.value.transient
    world.open().apply(transaction)
    world.applier.commit()
    assert len(world.same()) == 1


def test_a_read_only_server_is_named(world: World) -> None:
    world.both(T)
    world.start("t")
    world.write("INSERT INTO t VALUES (1, 'a')")
    world.applier._conn.execute("SET default_transaction_read_only = on")
    world.applier._conn.commit()
    with pytest.raises(CarveoutError, match="read-only") as raised:
        world.replicate()
    assert not raised.value.transient


def test_a_role_that_may_not_silence_triggers_is_told_what_to_grant(world: World) -> None:
    role = f"plain_{uuid.uuid4().hex[:8]}"
    world.service.execute(f"CREATE ROLE {role} LOGIN")
    plain = Database(Side.SERVICE, world.pair.service.url.replace("postgres@", f"{role}@"))
    with pytest.raises(AccessDenied, match="session_replication_role") as raised:
        Applier(plain, STREAM, [TableName("public", "t")], OPTIONS, owner=uuid.uuid4())
    assert f"TO {role}" in raised.value.next_step
    world.service.execute(f"DROP ROLE {role}")


def test_relations_of_one_table_that_alternate_keep_the_order(world: World) -> None:
    """As when streamed transactions bring relations of their own between those of the session."""
    world.both("CREATE TABLE t (id int PRIMARY KEY, v text, c text)")
    applier = world.start("t")
    key = RelationColumn("id", 23, -1, True)
    v, c = RelationColumn("v", 25, -1, False), RelationColumn("c", 25, -1, False)
    narrow = Relation(1, TableName("public", "t"), "d", (key, v))
    wide = Relation(1, TableName("public", "t"), "d", (key, v, c))
    changes: list[Change] = [
        Insert(narrow, [b"1", b"first"]),
        Update(wide, [b"1", b"second", b"c"], None, False),
        Update(narrow, [b"1", b"third"], None, False),
    ]
    applier.apply(Transaction(1, 8, 16, 0, changes, len(changes), 30))
    applier.commit()
    assert world.rows(world.service, "public.t") == [b"1\tthird\tc\n"]


def test_a_stream_without_position_cannot_be_applied(world: World) -> None:
    world.service.execute("DELETE FROM carveout.position")
    with pytest.raises(StreamStopped, match="no position"):
        Applier(world.pair.service, STREAM, [TableName("public", "t")], OPTIONS, owner=uuid.uuid4())


KILLED = """
import pickle, sys, uuid
from cdc.apply import Applier
from cdc.state.position import StreamId
from contexts.databases import Database
from contexts.model import Options, Side, TableName
applier = Applier(Database(Side.SERVICE, sys.argv[1]), StreamId("wallet", 1), [TableName("public", "t")], Options(),
                  owner=uuid.uuid4())
for transaction in pickle.load(open(sys.argv[2], "rb")):
    applier.apply(transaction)
print(applier.commit())
"""


@pytest.mark.parametrize("point", ["apply.rows_written", "apply.before_commit", "apply.after_commit"])
def test_a_killed_worker_loses_and_doubles_nothing(world: World, tmp_path: Path, point: str) -> None:
    world.both(T)
    world.start("t").close()
    world.write("INSERT INTO t SELECT i, 'a' FROM generate_series(1, 20) i", "UPDATE t SET v = 'b' WHERE id < 9")
    (spool := tmp_path / "transactions").write_bytes(pickle.dumps(world.read()))
    command = [sys.executable, "-c", KILLED, world.pair.service.url, str(spool)]
    run = subprocess.run(command, env={**os.environ, "CARVEOUT_KILL_AT": point}, capture_output=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    committed = bool(stored(world))
    assert committed is (point == "apply.after_commit")
    run = subprocess.run(command, capture_output=True, check=True)
    assert int(run.stdout) == stored(world)
    assert len(world.same()) == 20


def test_rows_never_reach_an_error_message(world: World) -> None:
    world.both("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE DOMAIN d AS text")
    world.start("t")
    world.service.execute("ALTER TABLE public.t ADD CHECK (v <> 'secret')")
    world.write("INSERT INTO t SELECT i, 'secret' FROM generate_series(1, 9) i")
    with pytest.raises(StreamStopped) as raised:
        world.replicate()
    assert "secret" not in "".join(raised.value.lines())
    assert raised.value.__suppress_context__
    assert isinstance(raised.value.__context__, psycopg.Error)
