"""The closed side is watched: writes past the lock, triggers that do not stand, and everybody who still comes there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from contexts.catalog import read_tables
from contexts.databases import Database, Databases
from contexts.embedded import Server, available_majors
from contexts.model import Side, TableName
from migrator import sides
from migrator.executor import Live
from migrator.sides import route, writelock
from migrator.watch import stragglers
from migrator.watch.fence import FenceWatch
from migrator.watch.stragglers import Collector
from tests.conftest import need, server_folder
from tests.migrator.commands import run
from tests.migrator.moving import TABLES_SQL, Bank
from tests.waiting import wait_until

SHARED, SERVICE = Side.SHARED, Side.SERVICE
BOTH = "carveout_write_lock and carveout_note_write"
STATISTICS = {"shared_preload_libraries": "pg_stat_statements"}


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> Iterator[Bank]:
    """Cut over: the shared side is closed; the worker looks often."""
    made = Bank.create(tmp_path_factory.mktemp("watch"), module_pair, options="watch_interval_s = 0.2")
    run(made, "prepare", "bank", "--skip-check")
    with made.worker():
        made.await_streaming()
        made.pay(SHARED, 1, 2)
        run(made, "verify", "bank")
        run(made, "cutover", "bank")
        made.await_streaming()
        yield made


def somebody(database: Database, application: str = "psql", **settings: str) -> psycopg.Connection:
    """A session that is not ours."""
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return psycopg.connect(database.url, application_name=application, autocommit=True, options=options)


def watched(bank: Bank) -> dict[str, Any]:
    return bank.status()["worker"]["watch"] or {}


def findings(bank: Bank) -> list[str]:
    with bank.both.shared.connect("test") as conn:
        rows = conn.execute("SELECT detail ->> 'finding' FROM carveout.event WHERE kind = 'fence' ORDER BY id")
        return [finding for (finding,) in rows.fetchall()]


def test_a_rogue_writer_is_found_and_stops_the_way_back_until_a_proof(bank: Bank) -> None:
    bank.pay(SERVICE, 1, 2)
    bank.await_equal()
    assert findings(bank) == []  # the applier is none
    with somebody(bank.both.shared, "repair by hand", session_replication_role="replica") as conn:
        now = conn.execute("SELECT clock_timestamp()").fetchone()
        conn.execute("UPDATE bank.account SET balance = balance + 1 WHERE id = 3")
        wait_until(lambda: len(findings(bank)) == 1, bank.worker_log)
        assert now
        [found] = findings(bank)
        assert "role postgres (repair by hand, 127.0.0.1) wrote to bank.account (UPDATE) at" in found
        assert f"{now[0]:%Y-%m-%d}" in found
        wait_until(lambda: watched(bank).get("rogue_writes") == 1)
        assert "ROGUE WRITES on the closed shared side: 1" in run(bank, "status", "bank").out
        said = run(bank, "doctor", "bank", expect=5).out
        assert "! past the write lock of the shared side: role postgres (repair by hand, 127.0.0.1)" in said
        refused = run(bank, "rollback", "bank", expect=4).err
        assert "past the write lock of the shared side (carveout verify bank)" in refused
        run(bank, "verify", "bank", expect=3)  # the row is wrong, and the proof says so
        conn.execute("UPDATE bank.account SET balance = balance - 1 WHERE id = 3")
    wait_until(lambda: len(findings(bank)) == 2)
    run(bank, "verify", "bank")
    assert "past the write lock" not in run(bank, "doctor", "bank").out


def test_a_write_that_rolled_back_is_none(bank: Bank) -> None:
    before = len(findings(bank))
    with somebody(bank.both.shared, session_replication_role="replica") as conn, conn.transaction(force_rollback=True):
        conn.execute("DELETE FROM bank.entry")
    looks = _looks(bank)
    wait_until(lambda: _looks(bank) > looks + 1)
    assert len(findings(bank)) == before


def test_a_lock_that_was_taken_off_is_put_on_again(bank: Bank) -> None:
    with somebody(bank.both.shared) as conn:
        conn.execute("ALTER TABLE bank.account DISABLE TRIGGER ALL")
        wait_until(lambda: not bank.is_open(SHARED) if _closed(conn) else False, bank.worker_log)
        assert any(
            "bank.account: carveout_write_lock and carveout_note_write did not stand" in f for f in findings(bank)
        )
        conn.execute("DROP TRIGGER carveout_note_write ON bank.entry")
        wait_until(lambda: any("bank.entry: carveout_note_write did not stand" in f for f in findings(bank)))


def test_a_lock_that_was_off_between_two_looks_is_found(bank: Bank) -> None:
    with somebody(bank.both.shared) as conn:
        with conn.transaction():
            conn.execute("ALTER TABLE bank.entry DISABLE TRIGGER carveout_write_lock")
            conn.execute("INSERT INTO bank.entry (account, amount) VALUES (5, 0)")
            conn.execute("DELETE FROM bank.entry WHERE account = 5 AND amount = 0")
            conn.execute("ALTER TABLE bank.entry ENABLE TRIGGER carveout_write_lock")
        said = "bank.entry: carveout_write_lock was taken off and put back since the last look"
        wait_until(lambda: said in findings(bank), bank.worker_log)


def test_stragglers_have_names(bank: Bank) -> None:
    with bank.both.shared.connect("test") as admin:
        admin.execute("CREATE ROLE watch_old LOGIN; GRANT USAGE ON SCHEMA bank TO watch_old")
        admin.execute("GRANT SELECT, UPDATE ON bank.account TO watch_old")
    before = _refused(bank)
    old = Database(SHARED, conninfo.make_conninfo(bank.both.shared.url, user="watch_old"))
    try:
        with somebody(old, "monthly report") as conn:
            for _ in range(30):
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    conn.execute("UPDATE bank.account SET balance = 0 WHERE id = 1")
            with conn.transaction():
                conn.execute("SELECT count(*) FROM bank.account")
                wait_until(lambda: {"refused", "read"} <= {one["kind"] for one in _stragglers(bank, "watch_old")})
        assert _refused(bank) == before + 30
        [known] = [one for one in _stragglers(bank, "watch_old") if one["kind"] == "refused"]
        assert (known["application"], known["address"], known["table"]) == (
            "monthly report",
            "127.0.0.1",
            "bank.account",
        )
        said = run(bank, "stragglers", "bank").out
        assert "watch_old (monthly report, 127.0.0.1) was refused to write bank.account" in said
    finally:
        with bank.both.shared.connect("test") as admin:
            admin.execute("DROP OWNED BY watch_old; DROP ROLE watch_old")


def test_a_table_made_anew_and_a_new_partition_are_closed(pair: Databases) -> None:
    sides.install(pair.shared)
    executor = Live(pair, "test")
    with somebody(pair.shared) as conn:
        conn.execute("CREATE TABLE t (id int PRIMARY KEY, part int) PARTITION BY LIST (id)")
        conn.execute("CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1)")
        route.write(executor, SHARED, "bank", SERVICE, 2)
        watch = FenceWatch("bank", SHARED)

        def look(driver: int = 0) -> list[str]:
            tables = list(read_tables(executor.connection(SHARED), [TableName("public", "t")]).values())
            return watch.look(executor, tables, driver)

        for table in read_tables(executor.connection(SHARED), [TableName("public", "t")]).values():
            writelock.create(executor, SHARED, "bank", table, closed=True)
        assert look() == []
        conn.execute("CREATE TABLE t_2 PARTITION OF t FOR VALUES IN (2)")
        [found] = look()
        assert found.startswith(
            "public.t_2: carveout_write_lock and carveout_note_write did not stand; it was put right"
        )
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute("INSERT INTO t_2 VALUES (2)")
        conn.execute("DROP TABLE t_1; CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1)")
        assert [line.split(":")[0] for line in look()] == ["public.t_1"]
        conn.execute("ALTER TABLE t_2 DISABLE TRIGGER carveout_write_lock")
        assert look(driver=-1) == []  # a driver has begun since: what stands is its business
        conn.execute("INSERT INTO t_2 VALUES (2)")
    executor.close()


def test_the_statistics_of_statements_are_counted() -> None:
    need("postgres15", 15 in available_majors(), "a server with pg_stat_statements")
    with (
        server_folder() as folder,
        Server(folder / "s", 15, STATISTICS) as server,
    ):
        database = Database(SHARED, server.url())
        sides.install(database)
        with database.connect("test") as ours, psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute(TABLES_SQL)
            conn.execute("CREATE EXTENSION pg_stat_statements")
            conn.execute(
                "CREATE ROLE teller LOGIN; GRANT USAGE ON SCHEMA bank TO teller; GRANT SELECT ON bank.entry TO teller"
            )
            oids = [
                oid for (oid,) in ours.execute("SELECT oid::int8 FROM pg_class WHERE relname IN ('account', 'entry')")
            ]
            collector, counted = Collector("bank"), stragglers.STATEMENTS_EVERY
            collector.look(ours, 2, oids)
            with psycopg.connect(server.url(user="teller"), autocommit=True) as teller:
                for _ in range(3):
                    teller.execute("SELECT count(*) FROM bank.entry")
                teller.execute("SELECT 'entries'")
            for _ in range(counted):
                collector.look(ours, 2, oids)
            [one] = stragglers.read(ours, "bank").stragglers
            assert (one.kind, one.role, one.table, one.times) == ("statement", "teller", "bank.entry", 3)


def _looks(bank: Bank) -> int:
    with bank.both.shared.connect("test") as conn:
        row = conn.execute("SELECT looks FROM carveout.watch WHERE context = 'bank'").fetchone()
    return row[0] if row else 0


def _closed(conn: psycopg.Connection) -> bool:
    states = "SELECT tgenabled::text FROM pg_trigger WHERE tgrelid = 'bank.account'::regclass AND tgname ~ 'write_lock'"
    return conn.execute(states).fetchone() == ("O",)


def _refused(bank: Bank) -> int:
    return sum(one["times"] for one in _stragglers(bank) if one["kind"] == "refused")


def _stragglers(bank: Bank, role: str | None = None) -> list[dict[str, Any]]:
    document = json.loads(run(bank, "stragglers", "bank", "--json").out)
    return [one for one in document["stragglers"] if role in (None, one["role"])]
