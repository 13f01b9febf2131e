"""What is wrong outside of Carveout ends in a clear error and its exit code; with the cause gone, all goes on."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from contexts import schema
from contexts.databases import Database, Databases
from contexts.embedded import Server, available_majors, free_port
from contexts.model import Side
from tests.conftest import need, server_folder
from tests.migrator.commands import Ended, run, start
from tests.migrator.moving import REVISION, Bank
from tests.migrator.payments import the_open_side
from tests.migrator.snapshots import catalog

OPTIONS = "spool_mb = 0.02\nbatch_age_ms = 20"
PASSWORD = "correct horse"
WRONG = "wrong-battery-staple"
CONFIRM = ("--confirm", "bank")


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that asks role ``mover`` for a password, and gives slots up early."""
    need("postgres16", 16 in available_majors(), "install that PostgreSQL server")
    with server_folder() as folder:
        server = Server(folder, 16, {"max_slot_wal_keep_size": "32MB"}).start()
        (folder / "data" / "pg_hba.conf").write_text(
            "host all mover 127.0.0.1/32 scram-sha-256\nhost replication mover 127.0.0.1/32 scram-sha-256\n"
            "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"
        )
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute(f"CREATE ROLE mover LOGIN PASSWORD '{PASSWORD}'")
            conn.execute("SELECT pg_reload_conf()")
            for side in Side:
                conn.execute(f"CREATE DATABASE bad_{side}")
        yield server
        server.stop()


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    return Bank.create(tmp_path, pair, options=OPTIONS)


@pytest.fixture
def streaming(bank: Bank) -> Bank:
    """A bank that has come as far as streaming; its worker has ended."""
    run(bank, "prepare", "bank", "--skip-check")
    with bank.worker():
        bank.await_streaming()
    return bank


def work(bank: Bank, expect: int, **environment: str) -> Ended:
    """Run the worker until it gives up by itself."""
    return run(bank, "worker", "bank", "--spool", str(bank.folder / "spool"), expect=expect, **environment)


def goes_on(bank: Bank) -> None:
    """A worker streams, and nothing is missing."""
    with bank.worker():
        bank.await_streaming()
        bank.pay(Side.SHARED, 1, 2)
        bank.await_equal()
    assert the_open_side(bank) is Side.SHARED


def execute(database: Database, *statements: str) -> None:
    with database.connect("test") as conn:
        for statement in statements:
            conn.execute(statement)


def test_a_malformed_context(bank: Bank) -> None:
    file = bank.folder / "contexts" / "bank" / "context.toml"
    good = file.read_text()
    for bad, said in (
        (good + "[[tables]\n", f"line {good.count(chr(10)) + 1}, column"),
        (good.replace("spool_mb", "spool_gb"), "options.spool_gb: unknown key"),
        (good.replace("spool_mb = 0.02", "spool_mb = -1"), "options.spool_mb: Input should be greater than 0"),
        (good.replace("bank.entry", "bank.account"), "tables: listed twice: bank.account"),
        (good.replace("${BANK_URL}", f"postgresql://mover:{WRONG}@db/bank"), "service.url: holds a password"),
    ):
        file.write_text(bad)
        failed = run(bank, "prepare", "bank", "--skip-check", expect=2)
        assert failed.err.startswith(f"error: {file}: ")
        assert said in failed.err
        assert WRONG not in failed.err
    file.write_text(good)
    assert "no context 'wallet'" in run(bank, "status", "wallet", expect=2).err
    run(bank, "prepare", "bank", "--skip-check")


def test_an_unreachable_server(bank: Bank) -> None:
    before = catalog(bank.both.shared)
    nowhere = f"postgresql://postgres@127.0.0.1:{free_port()}/bank"
    for variable, side in (("BANK_SHARED_URL", "shared"), ("BANK_URL", "service")):
        wrong = {variable: nowhere}
        failed = start(bank, "prepare", "bank", "--skip-check", **wrong).end(1)
        assert failed.err.splitlines()[-3].startswith(f"error: {side} database (postgres@127.0.0.1:")
        assert "Traceback" not in failed.err
        assert "unchanged: " in failed.err
    run(bank, "prepare", "bank", "--skip-check")
    goes_on(bank)
    assert {row for row in before if row[0] != "trigger"} <= set(catalog(bank.both.shared))


def test_a_password_is_never_shown_and_rights_are_named(tmp_path: Path, own: Server) -> None:
    pair = Databases(*(Database(side, own.url(f"bad_{side}")) for side in Side))
    bank = Bank.create(tmp_path, pair, options=OPTIONS)
    execute(pair.shared, "ALTER DATABASE bad_shared OWNER TO mover", "ALTER SCHEMA bank OWNER TO mover",
            "ALTER TABLE bank.account OWNER TO mover", "ALTER TABLE bank.entry OWNER TO mover")  # fmt: skip
    good, bad = (
        {variable: f"postgresql://mover:{password.replace(' ', '%20')}@127.0.0.1:{own.port}/bad_{side}"
         for variable, side in (("BANK_SHARED_URL", "shared"), ("BANK_URL", "service"))}
        for password in (PASSWORD, WRONG)
    )  # fmt: skip
    said = []
    for wrong in ({**good, "BANK_URL": bad["BANK_URL"]}, {**good, "BANK_SHARED_URL": bad["BANK_SHARED_URL"]}):
        said.append(run(bank, "prepare", "bank", "--skip-check", expect=1, **wrong))
        assert 'password authentication failed for user "mover"' in said[-1].err
    said.append(run(bank, "prepare", "bank", "--skip-check", expect=1, **good))
    assert "permission denied for database bad_service (42501)" in said[-1].err
    execute(pair.service, "ALTER DATABASE bad_service OWNER TO mover")
    start(bank, "prepare", "bank", "--skip-check", **good).end()

    said.append(work(bank, 1, **bad))
    said.append(work(bank, 1, **good))
    assert "GRANT SET ON PARAMETER session_replication_role TO mover" in said[-1].err
    execute(pair.service, "GRANT SET ON PARAMETER session_replication_role TO mover")
    said.append(work(bank, 1, **good))
    assert "give the role the REPLICATION attribute" in said[-1].err
    execute(pair.shared, "ALTER ROLE mover REPLICATION")
    said.append(work(bank, 1, **{**good, "BANK_URL": bad["BANK_URL"]}))
    for ended in said:
        assert "Traceback" not in ended.err
        for secret in (WRONG, PASSWORD, PASSWORD.replace(" ", "%20")):
            assert secret not in ended.out + ended.err
    with bank.worker(**good):
        bank.await_streaming()
        bank.pay(Side.SHARED, 1, 2)
        bank.await_equal()
    assert WRONG not in bank.worker_log()
    assert PASSWORD not in bank.worker_log()


def test_a_slot_that_does_not_hold_every_change_is_refused(streaming: Bank) -> None:
    bank, slot = streaming, "carveout_bank_1"
    bank.pay(Side.SHARED, 1, 2)
    before = bank.rows(Side.SERVICE), _position(bank)
    for spoil, said in (
        (f"SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())", "ahead of the stored position"),
        (f"SELECT pg_drop_replication_slot('{slot}')", f"slot '{slot}' does not exist"),
        (f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')", "ahead of the stored position"),
    ):
        execute(bank.both.shared, spoil)
        assert said in work(bank, 5).err
        assert (bank.rows(Side.SERVICE), _position(bank)) == before
        doctor = run(bank, "doctor", "bank", expect=5).out
        assert ("is gone" if "drop" in spoil else "it was re-created or advanced") in doctor
        assert "the worker last said: slot" in doctor
    _begins_again(bank)


def test_an_invalidated_slot_is_refused(tmp_path: Path, own: Server) -> None:
    with psycopg.connect(own.url(), autocommit=True) as conn:
        for side in Side:
            conn.execute(f"CREATE DATABASE lost_{side}")
    pair = Databases(*(Database(side, own.url(f"lost_{side}")) for side in Side))
    bank = Bank.create(tmp_path, pair, options=OPTIONS)
    run(bank, "prepare", "bank", "--skip-check")
    with bank.worker():
        bank.await_streaming()
    bank.pay(Side.SHARED, 1, 2)
    before = bank.rows(Side.SERVICE)
    fill = ["SELECT pg_logical_emit_message(false, 'fill', 'x')", "SELECT pg_switch_wal()"]
    execute(pair.shared, *(fill * 6), "CHECKPOINT")
    assert "slot 'carveout_bank_1' was invalidated by the server: wal_removed" in work(bank, 5).err
    assert bank.rows(Side.SERVICE) == before
    assert "invalidated" in run(bank, "doctor", "bank", expect=5).out
    _begins_again(bank)


def test_another_server_behind_the_address(
    streaming: Bank, new_database: Callable[[int, Side], Database], tmp_path_factory: pytest.TempPathFactory
) -> None:
    bank = streaming
    other = Databases(new_database(18, Side.SHARED), new_database(16, Side.SERVICE))
    elsewhere = Bank.create(tmp_path_factory.mktemp("other"), other, options=OPTIONS)
    run(elsewhere, "prepare", "bank", "--skip-check")
    before = bank.rows(Side.SERVICE), _position(bank)
    said = work(bank, 5, BANK_SHARED_URL=other.shared.url).err
    assert "was on the server with system identifier" in said
    assert (bank.rows(Side.SERVICE), _position(bank)) == before
    assert "no position is stored for stream 1" in work(bank, 5, BANK_URL=other.service.url).err
    goes_on(bank)


def test_no_room_for_the_spool(streaming: Bank) -> None:
    bank = streaming
    bank.stream_large_transactions()
    with bank.worker() as worker:
        bank.await_streaming()
        # No file may grow beyond this: the spool of the next transaction cannot.
        resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
        _large_transaction(bank)
        assert worker.wait() == 1
    assert "a large transaction cannot be spooled: File too large" in bank.worker_log()
    assert "unchanged: the transaction was not applied" in bank.worker_log()
    goes_on(bank)


def test_no_room_for_the_tables(bank: Bank, servers: Callable[[int], Server]) -> None:
    run(bank, "prepare", "bank", "--skip-check")
    with _tiny_disk(servers(18)) as (folder, grow):
        with psycopg.connect(servers(18).url(), autocommit=True) as conn:
            conn.execute(f"CREATE TABLESPACE tiny LOCATION '{folder}'")
        execute(bank.both.service, "ALTER TABLE bank.entry SET TABLESPACE tiny")
        _large_transaction(bank, rows=20_000)
        said = work(bank, 1).err
        assert "No space left on device" in said
        assert "bank.entry" in said
        grow("8m")
        goes_on(bank)
        _large_transaction(bank, rows=100_000)
        said = work(bank, 1).err
        assert "No space left on device" in said
        assert "free disk space" in said
        grow("64m")
        goes_on(bank)
        execute(bank.both.service, "ALTER TABLE bank.entry SET TABLESPACE pg_default")
        with psycopg.connect(servers(18).url(), autocommit=True) as conn:
            conn.execute("DROP TABLESPACE tiny")


def test_a_schema_change_in_mid_stream(streaming: Bank) -> None:
    bank = streaming
    bank.pay(Side.SHARED, 1, 2)
    execute(bank.both.shared, "ALTER TABLE bank.account ADD COLUMN nickname text")
    execute(bank.both.shared, "UPDATE bank.account SET nickname = 'n' || id WHERE id < 10")
    bank.pay(Side.SHARED, 3, 4)
    said = work(bank, 5).err
    assert "table bank.account: column 'nickname' is missing on the closed side" in said
    assert "next: write a revision" in said
    versions = bank.folder / "contexts" / "bank" / "schema" / "versions"
    (versions / "0003_nickname.py").write_text(
        REVISION.format(
            revision="0003_nickname",
            down='"0002_indexes_and_constraints"',
            statements="ALTER TABLE bank.account ADD COLUMN nickname text",
        )
    )
    schema.upgrade(bank.both.service, bank.context, "head")
    goes_on(bank)
    assert "n5" in str(bank.rows(Side.SERVICE)["account"][4])


def _position(bank: Bank) -> object:
    with bank.both.service.connect("test") as conn:
        return conn.execute("SELECT end_lsn, ordinal FROM carveout.position").fetchall()


def _begins_again(bank: Bank) -> None:
    """What a lost slot leaves: give up, and copy again."""
    run(bank, "abort", "bank", *CONFIRM)
    run(bank, "prepare", "bank", "--skip-check")
    goes_on(bank)


def _large_transaction(bank: Bank, rows: int = 3000) -> None:
    execute(
        bank.both.shared,
        f"INSERT INTO bank.entry (account, amount, memo) SELECT 1 + g % 200, 0, repeat('m', 60)"
        f" FROM generate_series(1, {rows}) g",
    )


@contextmanager
def _tiny_disk(server: Server) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A file system of 1 MB for the server, and a way to make it larger."""
    need("root", os.geteuid() == 0, "only root can mount a small file system")
    folder = Path(tempfile.mkdtemp(prefix="carveout-tiny-"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode == 0
    need("root", mounted, "this system does not let us mount")
    owner = (server.folder / "data").stat()
    os.chown(folder, owner.st_uid, owner.st_gid)

    def grow(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)

    try:
        yield folder, grow
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()
