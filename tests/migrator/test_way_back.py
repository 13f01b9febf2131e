"""The way back: a cutover is refused for what would refuse it, and doctor says what is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from contexts.databases import Databases
from contexts.model import Side
from migrator import doctor, sides
from migrator.control.migrations import Migration
from migrator.executor import Live
from migrator.lifecycle import State
from migrator.run import Run
from migrator.sides import writelock
from migrator.switch import conditions
from tests.migrator.moving import TABLES_SQL, Bank

ROLE = "bank_teller"


@pytest.fixture
def run(tmp_path: Path, pair: Databases) -> Iterator[Run]:
    bank = Bank.create(tmp_path, pair)
    file = tmp_path / "contexts" / "bank" / "context.toml"
    file.write_text(file.read_text() + f'[[grants]]\nrole = "{ROLE}"\nprivileges = ["select", "update"]\n')
    for side in Side:
        with pair[side].connect("test") as conn:
            if side is Side.SERVICE:
                conn.execute(TABLES_SQL)
            conn.execute(f"CREATE ROLE {ROLE}")
            conn.execute(f"GRANT USAGE ON SCHEMA bank TO {ROLE}")
            conn.execute(f"GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA bank TO {ROLE}")
    executor = Live(pair, "test")
    yield Run(bank.context, pair, executor)
    executor.close()
    for side in Side:
        with pair[side].connect("test") as conn:
            conn.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


def test_a_cutover_asks_for_the_grants_that_a_rollback_needs(run: Run) -> None:
    assert [*conditions._grants(run, Side.SHARED, Side.SERVICE)] == []
    with run.databases.shared.connect("test") as conn:
        conn.execute(f"REVOKE UPDATE ON bank.entry FROM {ROLE}")
    [reason] = conditions._grants(run, Side.SHARED, Side.SERVICE)
    assert "bank.entry on the shared side" in reason
    assert f'GRANT UPDATE ON "bank"."entry" TO "{ROLE}"' in reason


def test_doctor_names_the_statements_that_open_what_should_be_open(run: Run) -> None:
    for side in Side:
        sides.install(run.databases[side])
    accounts, entries = run.tables(Side.SHARED)
    writelock.create(run.executor, Side.SHARED, "bank", accounts, closed=True)
    writelock.create(run.executor, Side.SHARED, "bank", entries, closed=False)
    migration = Migration("bank", State.STREAMING, Side.SHARED, 1)
    statements = [line for line in doctor._side(run, Side.SHARED, migration, None) if line.startswith("    ")]
    assert statements == ['    shared: ALTER TABLE "bank"."account" DISABLE TRIGGER carveout_write_lock;']
    run.executor.write(Side.SHARED, sql.SQL(statements[0].partition(": ")[2]))
    assert not [line for line in doctor._side(run, Side.SHARED, migration, None) if line.startswith("!")]


def test_a_lost_way_back_leads_forward() -> None:
    assert "carveout abort bank" in doctor._without_slot(Migration("bank", State.STREAMING, Side.SHARED, 1))
    assert "carveout complete bank" in doctor._without_slot(Migration("bank", State.SWITCHED, Side.SERVICE, 2))
