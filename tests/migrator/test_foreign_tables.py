"""``complete --foreign-tables``: writers left behind go on through the old names, within the limits of postgres_fdw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo, sql

from contexts.databases import Database, Databases
from contexts.embedded import Server
from contexts.model import Side
from tests.conftest import need, server_folder
from tests.migrator import inprocess
from tests.migrator.commands import run, run_killed_at
from tests.migrator.driving import switch
from tests.migrator.moving import Bank
from tests.migrator.snapshots import catalog

SHARED, SERVICE = 15, 18  # the pip package's servers 16 and 18 have no postgres_fdw; the service side needs none
CLERK, READER, MOVER = "fdw_clerk", "fdw_reader", "fdw_mover"
PASSWORD = "50%s of 'it'"
COMPLETE = ("complete", "bank", "--foreign-tables", "--confirm", "bank")
PASSWORDS = {"CARVEOUT_FOREIGN_PASSWORD_FDW_CLERK": PASSWORD, "CARVEOUT_FOREIGN_PASSWORD_FDW_READER": PASSWORD}
GRANTS = f"""
[[grants]]
role = "{CLERK}"
privileges = ["select", "insert", "update", "delete"]
[[grants]]
role = "{READER}"
privileges = ["select"]
"""
EXTRA_SQL = """
ALTER TABLE bank.account ADD opened timestamptz NOT NULL DEFAULT now(), ADD state text NOT NULL DEFAULT '100% new',
    ADD double numeric GENERATED ALWAYS AS (balance * 2) STORED;
CREATE SEQUENCE bank.memo_numbers;
ALTER TABLE bank.entry ADD number integer NOT NULL DEFAULT nextval('bank.memo_numbers');
"""


@pytest.fixture(scope="module")
def service_server() -> Iterator[Server]:
    """A server where the clerk and the reader need their password; postgres_fdw lets nobody else in."""
    with server_folder() as folder, Server(folder / "service", SERVICE) as server:
        hba = folder / "service" / "data" / "pg_hba.conf"
        hba.write_text(f"host all {CLERK},{READER} 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
        with psycopg.connect(server.url(), autocommit=True) as conn:
            for role in (CLERK, READER):
                conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), PASSWORD))
            conn.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def bank(tmp_path: Path, new_database: Callable[[int, Side], Database], service_server: Server) -> Iterator[Bank]:
    """A bank that is switched: the service side is open, the shared tables are closed."""
    shared = new_database(SHARED, Side.SHARED)
    with psycopg.connect(shared.url, autocommit=True) as conn:
        found = conn.execute("SELECT FROM pg_available_extensions WHERE name = 'postgres_fdw'").fetchone()
        need("postgres_fdw", found is not None, f"PostgreSQL {SHARED} with its contrib modules")
    with _service_database(service_server) as service, _roles(shared):
        yield _switched(tmp_path, Databases(shared, service))


@contextmanager
def _service_database(server: Server) -> Iterator[Database]:
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute("CREATE DATABASE fdw")
        yield Database(Side.SERVICE, server.url("fdw"))
        conn.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        conn.execute("DROP DATABASE fdw WITH (FORCE)")


@contextmanager
def _roles(shared: Database) -> Iterator[None]:
    with psycopg.connect(shared.url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {CLERK} LOGIN; CREATE ROLE {READER} LOGIN; CREATE ROLE {MOVER} LOGIN")
        yield
        conn.execute(f"DROP OWNED BY {CLERK}, {READER}, {MOVER} CASCADE")
        conn.execute(f"DROP ROLE {CLERK}; DROP ROLE {READER}; DROP ROLE {MOVER}")


def _switched(folder: Path, pair: Databases) -> Bank:
    bank = Bank.create(folder, pair, options="batch_age_ms = 20")
    bank.environment |= PASSWORDS
    bank.declare(GRANTS)
    first = folder / "contexts" / "bank" / "schema" / "versions" / "0001_tables.py"
    first.write_text(first.read_text().replace(');\n"""', f');\n{EXTRA_SQL}"""'))
    with psycopg.connect(pair.shared.url, autocommit=True) as conn:
        conn.execute(sql.SQL(EXTRA_SQL))
        conn.execute(
            f"GRANT USAGE ON SCHEMA bank TO {CLERK}, {READER}; GRANT SELECT ON ALL TABLES IN SCHEMA bank TO {READER}"
        )
        conn.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA bank TO {CLERK}")
        conn.execute(f"GRANT USAGE ON SEQUENCE bank.memo_numbers TO {CLERK}")
    inprocess.prepare(bank)
    with inprocess.worker(bank):
        bank.await_streaming()
        inprocess.verify(bank)
        switch(bank, Side.SERVICE)
        bank.await_streaming()
    return bank


def _as(bank: Bank, role: str) -> psycopg.Connection:
    return psycopg.connect(conninfo.make_conninfo(bank.both.shared.url, user=role), autocommit=True)


def test_late_writers_go_on_through_the_old_names(bank: Bank) -> None:
    before = catalog(bank.both.shared)
    listed = run(bank, *COMPLETE[:3], "--dry-run").out
    assert catalog(bank.both.shared) == before
    assert 'CREATE FOREIGN TABLE "bank"."account"' in listed
    assert "SET SCHEMA" in listed
    assert PASSWORD not in listed
    assert PASSWORD.replace("'", "''") not in listed

    # Everything is made, nothing committed: the death leaves the closed tables as they were.
    run_killed_at(bank, "foreign.made", *COMPLETE)
    assert _kinds(bank) == {"account": "r", "entry": "r"}
    ended = run(bank, *COMPLETE)
    assert PASSWORD not in ended.out + ended.err
    assert _kinds(bank) == {"account": "f", "entry": "f"}
    assert bank.state() == "completed"
    run(bank, *COMPLETE)  # once more: nothing is left to do

    writes_reach_the_service_side(bank)
    keys_are_fresh(bank)
    a_concurrent_writer_is_an_error(bank)
    rights_are_kept(bank)
    the_closed_tables_are_there(bank)
    run(bank, "status", "bank")
    assert "foreign tables have their names" in run(bank, "doctor", "bank").out
    it_can_be_taken_away(bank)


def writes_reach_the_service_side(bank: Bank) -> None:
    with _as(bank, CLERK) as conn:
        made = conn.execute(
            "INSERT INTO bank.account (owner, balance) VALUES ('late', 7.50) RETURNING id, state, double"
        ).fetchone()
        assert made is not None
        assert made[1:] == ("100% new", 15)
        conn.execute("UPDATE bank.account SET balance = balance + 1 WHERE id = %s", [made[0]])
        conn.execute("DELETE FROM bank.entry WHERE id = 1")
        assert conn.execute("SELECT balance FROM bank.account WHERE id = %s", [made[0]]).fetchone() == (8.5,)
        conn.execute("INSERT INTO bank.account (id, owner, balance) VALUES (9000000, 'own key', 1)")
    with psycopg.connect(bank.both.service.url) as conn:
        found = conn.execute("SELECT owner, balance, double FROM bank.account WHERE id = %s", [made[0]]).fetchone()
        assert found == ("late", 8.5, 17)
        assert conn.execute("SELECT owner FROM bank.account WHERE id = 9000000").fetchone() == ("own key",)
        assert conn.execute("SELECT FROM bank.entry WHERE id = 1").fetchone() is None


def keys_are_fresh(bank: Bank) -> None:
    """Identity (both kinds) and a sequence: each row of one statement has a value of its own."""
    with _as(bank, CLERK) as conn:
        rows = conn.execute(
            "INSERT INTO bank.entry (account, amount) SELECT 2, 1 FROM generate_series(1, 5) RETURNING id, number"
        ).fetchall()
        accounts = conn.execute(
            "INSERT INTO bank.account (owner, balance) SELECT 'many', 1 FROM generate_series(1, 5) RETURNING id"
        ).fetchall()
        assert len({row[0] for row in rows}) == len({row[1] for row in rows}) == len(set(accounts)) == 5
        with pytest.raises(psycopg.errors.GeneratedAlways):
            conn.execute("INSERT INTO bank.entry (id, account, amount) VALUES (1, 2, 1)")
        conn.execute("UPDATE bank.entry SET memo = 'seen' WHERE id = %s", [rows[0][0]])
        kept = conn.execute("SELECT number FROM bank.entry WHERE memo = 'seen' AND id = %s", [rows[0][0]]).fetchone()
        assert kept == (rows[0][1],)
    with psycopg.connect(bank.both.service.url) as conn:
        new = conn.execute("INSERT INTO bank.entry (account, amount) VALUES (2, 1) RETURNING id, number").fetchone()
        assert new is not None
        assert new[0] > max(row[0] for row in rows)
        assert new[1] > max(row[1] for row in rows)


def a_concurrent_writer_is_an_error(bank: Bank) -> None:
    """The limit that the how-to tells: REPEATABLE READ on the service side."""
    more = sql.SQL("UPDATE bank.account SET balance = balance + 1 WHERE id = 3")
    with _as(bank, CLERK) as late, psycopg.connect(bank.both.service.url, autocommit=True) as new:
        late.execute("BEGIN")
        late.execute("SELECT balance FROM bank.account WHERE id = 3")
        new.execute(more)
        with pytest.raises(psycopg.errors.SerializationFailure):
            late.execute(more)


def rights_are_kept(bank: Bank) -> None:
    with _as(bank, READER) as conn:
        assert conn.execute("SELECT count(*) > 200 FROM bank.account").fetchone() == (True,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("UPDATE bank.account SET balance = 0")
    with _as(bank, MOVER) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT FROM bank.account")


def the_closed_tables_are_there(bank: Bank) -> None:
    with psycopg.connect(bank.both.shared.url) as conn:
        assert conn.execute("SELECT count(*) FROM carveout_closed_bank.account").fetchone() == (200,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute("DELETE FROM carveout_closed_bank.account")


def it_can_be_taken_away(bank: Bank) -> None:
    """The statements of the how-to."""
    page = (Path(__file__).parents[2] / "docs/howto/foreign-tables.md").read_text()
    blocks = [block.split("```")[0].replace("wallet", "bank") for block in page.split("```sql\n")[1:]]
    shared, service = blocks[-2:]
    for database, statements in ((bank.both.shared, shared), (bank.both.service, service)):
        with psycopg.connect(database.url, autocommit=True) as conn:
            conn.execute(sql.SQL(statements))
    assert _kinds(bank) == {}


def test_refused_before_anything_is_changed(bank: Bank) -> None:
    before = catalog(bank.both.shared), catalog(bank.both.service)
    wrong = run(bank, *COMPLETE, expect=4, CARVEOUT_FOREIGN_PASSWORD_FDW_CLERK="mistyped")
    assert f"{CLERK} cannot reach bank.account" in wrong.err
    assert "mistyped" not in wrong.err
    assert (catalog(bank.both.shared), catalog(bank.both.service)) == before
    with psycopg.connect(bank.both.shared.url, autocommit=True) as conn:
        for made, gone, said in (
            ("CREATE VIEW bank.rich AS SELECT id FROM bank.account", "DROP VIEW bank.rich", "rule _RETURN on view"),
            ("CREATE FUNCTION bank.one() RETURNS bank.account LANGUAGE sql AS 'SELECT NULL::bank.account'",
             "DROP FUNCTION bank.one()", "function bank.one()"),
            ("CREATE SCHEMA carveout_closed_bank", "DROP SCHEMA carveout_closed_bank", "is there already"),
            ("ALTER TABLE bank.account ADD late text", "ALTER TABLE bank.account DROP late", "bank.account.late"),
        ):  # fmt: skip
            conn.execute(sql.SQL(made))
            for dry in ((), ("--dry-run",)):
                assert said in run(bank, *COMPLETE, *dry, expect=4).err
            conn.execute(sql.SQL(gone))
    assert bank.state() == "switched"
    run(bank, "complete", "bank", "--confirm", "bank")
    the_mover_lacks_the_extension(bank)
    run(bank, *COMPLETE, "--drop-tables")  # after the end, too
    assert _kinds(bank) == {"account": "f", "entry": "f"}
    with _as(bank, READER) as reader:
        assert reader.execute("SELECT count(*) FROM bank.account").fetchone() == (200,)


def the_mover_lacks_the_extension(bank: Bank) -> None:
    with psycopg.connect(bank.both.shared.url, autocommit=True) as conn:
        conn.execute(f"GRANT USAGE ON SCHEMA carveout, bank TO {MOVER}")
        conn.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA carveout TO {MOVER}")
    url = conninfo.make_conninfo(bank.both.shared.url, user=MOVER)
    said = run(bank, *COMPLETE, expect=4, BANK_SHARED_URL=url).err
    assert f"postgres_fdw is not installed in the shared database, and {MOVER} may not do so" in said
    assert "CREATE EXTENSION postgres_fdw" in said


def _kinds(bank: Bank) -> dict[str, str]:
    with psycopg.connect(bank.both.shared.url) as conn:
        return dict(
            conn.execute(
                "SELECT relname, relkind::text FROM pg_class WHERE relnamespace = 'bank'::regnamespace"
                " AND relkind IN ('r', 'f')"
            ).fetchall()
        )
