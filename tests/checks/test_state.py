"""Each check of the state room."""

from __future__ import annotations

import psycopg

from contexts.model import Side
from migrator import control, sides
from migrator.checks import Severity
from migrator.control import migrations
from migrator.lifecycle import State
from tests.checks.conftest import ACCOUNTS, SERVICE, SHARED, Case

BLOCKER, WARNING = Severity.BLOCKER, Severity.WARNING


def walk(case: Case, *states: State) -> None:
    """Bring the migration into a state, as its driver would."""
    control.install(case.databases.shared)
    with case.databases.shared.connect("test") as conn:
        for state in states:
            migrations.transition(conn, "wallet", state)


def test_nothing_there_gives_no_finding(case: Case) -> None:
    assert case.report("publications", "subscriptions", "leftovers", "target_rows").findings == ()


def test_publications_of_others_are_named(case: Case) -> None:
    case.sql(SHARED, "CREATE TABLE app.else (id int PRIMARY KEY)", "CREATE PUBLICATION fine FOR TABLE app.else")
    case.sql(SHARED, "CREATE PUBLICATION everything FOR ALL TABLES", "CREATE PUBLICATION one FOR TABLE app.accounts")
    case.sql(SHARED, "CREATE PUBLICATION schemas FOR TABLES IN SCHEMA app")
    everything, one, schemas = case.find("publications")
    assert (everything.severity, everything.object) == (WARNING, "publication everything")
    assert "FOR ALL TABLES" in everything.message
    assert "publishes app.accounts:" in one.message
    assert "publishes app.accounts:" in schemas.message
    for found in (everything, one, schemas):
        case.fix(found)
    assert case.find("publications") == []


def test_a_subscription_may_not_write_the_tables(case: Case) -> None:
    case.sql(SHARED, "CREATE PUBLICATION p FOR TABLE app.accounts")
    case.sql(SERVICE, "CREATE SCHEMA app", ACCOUNTS)
    url = case.databases.shared.url
    case.sql(SERVICE, f"CREATE SUBSCRIPTION sub CONNECTION '{url}' PUBLICATION p WITH (copy_data = false)")
    try:
        found = case.only("subscriptions")
        assert (found.severity, found.side, found.object) == (BLOCKER, SERVICE, "subscription sub")
        case.fix(found)
        assert case.find("subscriptions") == []
    finally:
        case.sql(SERVICE, "ALTER SUBSCRIPTION sub DISABLE", "ALTER SUBSCRIPTION sub SET (slot_name = NONE)")
        case.sql(SERVICE, "DROP SUBSCRIPTION sub")


def make_slot(case: Case, side: Side, name: str) -> None:
    case.sql(side, f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")


def test_a_slot_that_was_left_is_named(case: Case) -> None:
    for name in ("carveout_wallet_1", "carveout_wallet_two_1", "carveout_wallets_1"):
        make_slot(case, SHARED, name)
    make_slot(case, SERVICE, "carveout_wallet_2")
    there, here = case.find("leftovers")
    assert (there.severity, there.side, there.object) == (BLOCKER, SHARED, "slot carveout_wallet_1")
    assert (here.side, here.object) == (SERVICE, "slot carveout_wallet_2")
    assert there.fix == "SELECT pg_catalog.pg_drop_replication_slot('carveout_wallet_1');"
    case.fix(there)
    case.fix(here)
    assert case.find("leftovers") == []


def test_the_slot_of_a_running_migration_is_none_of_them(case: Case) -> None:
    walk(case, State.PREPARED, State.COPYING)
    make_slot(case, SHARED, "carveout_wallet_1")
    assert case.find("leftovers") == []


def test_publication_and_write_locks_that_were_left(case: Case) -> None:
    sides.install(case.databases.shared)
    case.sql(
        SHARED,
        "CREATE PUBLICATION carveout_wallet FOR TABLE app.accounts",
        "CREATE TRIGGER carveout_write_lock BEFORE INSERT ON app.accounts"
        " EXECUTE FUNCTION carveout.write_lock('wallet', 'service')",
    )
    assert case.find("publications") == []
    assert case.find("triggers") == []
    publication, lock = case.find("leftovers")
    assert (publication.severity, publication.object) == (WARNING, "publication carveout_wallet")
    assert (lock.severity, lock.object) == (BLOCKER, "app.accounts")
    assert "the applications' writes are refused" in lock.message
    case.sql(SHARED, "ALTER TABLE app.accounts DISABLE TRIGGER carveout_write_lock")
    assert [found.severity for found in case.find("leftovers")] == [WARNING, WARNING]
    case.fix(publication)
    case.fix(lock)
    assert case.find("leftovers") == []


def test_rows_on_the_service_side_would_be_doubled(case: Case) -> None:
    case.sql(SERVICE, "CREATE SCHEMA app", ACCOUNTS, "INSERT INTO app.accounts VALUES (1, 10)")
    found = case.only("target_rows")
    assert (found.severity, found.side, found.object) == (BLOCKER, SERVICE, "app.accounts")
    walk(case, State.PREPARED)
    assert case.only("target_rows") == found
    walk(case, State.COPYING)
    assert case.find("target_rows") == []
    with psycopg.connect(case.databases.shared.url, autocommit=True) as conn:
        conn.execute("DELETE FROM carveout.migration")
    case.fix(found)
    assert case.find("target_rows") == []
