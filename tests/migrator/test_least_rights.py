"""The whole main job with the role that ``bootstrap-sql`` prints, and nothing more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

from contexts.databases import Database, Databases
from contexts.loader import load_project
from contexts.model import Side
from migrator import doctor
from migrator.checks import run_checks
from migrator.cli.common import run_of
from migrator.grants import run as granting
from migrator.steps.complete import complete
from migrator.watch import stragglers
from tests.migrator import inprocess
from tests.migrator.commands import run
from tests.migrator.driving import driver, switch
from tests.migrator.moving import Bank
from tests.tls import tls_server

MOVER, OWNER, TELLER = "least_mover", "least_owner", "least_teller"
GRANT = f'[[grants]]\nrole = "{TELLER}"\nprivileges = ["select", "insert", "update", "delete"]\n'


@pytest.mark.parametrize("majors", [(16, 18), (18, 16)], ids="{0[0]}-{0[1]}".format)
def test_the_main_job_needs_no_superuser(
    tmp_path: Path, new_database: Callable[[int, Side], Database], majors: tuple[int, int]
) -> None:
    admin = Databases(new_database(majors[0], Side.SHARED), new_database(majors[1], Side.SERVICE))
    with roles_of(admin):
        main_job(tmp_path, admin)


def test_the_main_job_through_tls_alone(tmp_path: Path) -> None:
    """The server refuses every connection without TLS: those of the copy and the stream, too."""
    with tls_server() as (server, certificate):
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute("CREATE DATABASE app")
            conn.execute("CREATE DATABASE service")
        tls = {"sslmode": "verify-full", "sslrootcert": str(certificate)}
        urls = [conninfo.make_conninfo(server.url(name), **tls) for name in ("app", "service")]
        main_job(tmp_path, Databases(Database(Side.SHARED, urls[0]), Database(Side.SERVICE, urls[1])))


def main_job(folder: Path, admin: Databases) -> None:
    """All of it as the mover: there, back, there again, and the end."""
    with psycopg.connect(admin.shared.url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {OWNER}; CREATE ROLE {TELLER} LOGIN")
    bank = mine(folder, admin)
    bootstrap(bank, admin)
    assert run_checks(load_project(bank.folder), bank.context).blockers == ()
    inprocess.prepare(bank)
    with inprocess.worker(bank):
        bank.await_streaming()
        for target in (Side.SERVICE, Side.SHARED, Side.SERVICE):
            there_and(bank, admin, target)
        verify(bank)
        with run_of(bank.context, bank.both, "test") as one:
            assert [line for line in doctor.diagnose(one) if line.startswith("!")] == []
            assert granting.check(one).blocking == []
            refused = [s for s in stragglers.read(one.control, "bank").stragglers if s.kind == "refused"]
            assert {s.role for s in refused} <= {TELLER}
    with driver(bank) as one:
        complete(one, drop_tables=False)


def there_and(bank: Bank, admin: Databases, target: Side) -> None:
    """A switch, with the application's role before and after it."""
    as_teller(admin[target.other], expected=True)
    verify(bank)
    assert switch(bank, target).write_block_ms > 0
    as_teller(admin[target], expected=True)
    as_teller(admin[target.other], expected=False)
    bank.await_streaming()
    bank.await_equal()


@contextmanager
def roles_of(admin: Databases) -> Iterator[None]:
    """Drops the roles of a main job from both servers at its end, with what they own."""
    try:
        yield
    finally:
        _drop_roles(admin)


def _drop_roles(admin: Databases) -> None:
    for database in (admin.service, admin.shared):
        with psycopg.connect(database.url, autocommit=True) as conn:
            conn.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                         " WHERE database = current_database() AND NOT active")  # fmt: skip
            for name in (MOVER, TELLER, OWNER):
                if conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
                    conn.execute(f"DROP OWNED BY {name} CASCADE")
    for database in (admin.service, admin.shared):
        with psycopg.connect(database.url, autocommit=True) as conn:
            for name in (MOVER, TELLER, OWNER):
                conn.execute(f"DROP ROLE IF EXISTS {name}")


def mine(folder: Path, admin: Databases) -> Bank:
    """A bank whose tables on the shared side belong to somebody, and whose URLs log in as the mover."""
    made = Bank.create(folder, admin)
    (file := folder / "contexts" / "bank" / "context.toml").write_text(file.read_text() + GRANT)
    with psycopg.connect(admin.shared.url, autocommit=True) as conn:
        conn.execute(f"ALTER TABLE bank.account OWNER TO {OWNER}; ALTER TABLE bank.entry OWNER TO {OWNER}")
        conn.execute(f"ALTER SCHEMA bank OWNER TO {OWNER}; GRANT USAGE ON SCHEMA bank TO {TELLER}")
        conn.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON bank.account, bank.entry TO {TELLER}")
    urls = {side: conninfo.make_conninfo(admin[side].url, user=MOVER) for side in Side}
    made.both = Databases(Database(Side.SHARED, urls[Side.SHARED]), Database(Side.SERVICE, urls[Side.SERVICE]))
    made.environment = {"BANK_SHARED_URL": urls[Side.SHARED], "BANK_URL": urls[Side.SERVICE]}
    made.expand_variables()
    return made


def bootstrap(bank: Bank, admin: Databases) -> None:
    """Run what the command prints, statement by statement; a role that is on the server already stays."""
    for side in Side:
        printed = run(bank, "bootstrap-sql", "bank", "--owner", OWNER, "--side", str(side)).out
        with psycopg.connect(admin[side].url, autocommit=True) as conn:
            for line in filter(None, printed.splitlines()):
                if line.startswith("--"):
                    continue
                name = re.match(r'CREATE ROLE "(\w+)"', line)
                if name and conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name[1]]).fetchone():
                    continue  # both sides on one server, as with 15
                conn.execute(line.split("  --")[0])
            row = conn.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", [MOVER]).fetchone()
            assert row == (False,)


def verify(bank: Bank) -> None:
    assert inprocess.verify(bank).passed


def as_teller(database: Database, *, expected: bool) -> None:
    """The application's own role pays where the side is open, and is refused where it is closed."""
    with psycopg.connect(conninfo.make_conninfo(database.url, user=TELLER)) as conn:
        try:
            conn.execute("UPDATE bank.account SET balance = balance - 1 WHERE id = 1")
            conn.execute("INSERT INTO bank.entry (account, amount) VALUES (1, -1)")
            assert expected
        except psycopg.errors.ReadOnlySqlTransaction:
            assert not expected
