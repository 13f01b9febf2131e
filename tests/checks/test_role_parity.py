"""Roles on both sides: what one lacks on the service side is named with its statement, and each role is tried there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from contexts.databases import Database, Databases
from contexts.embedded import Server, available_majors
from contexts.model import Side
from migrator import sides
from migrator.executor import Live
from migrator.grants import run as granting
from migrator.grants.parity import Lack, lacks
from migrator.grants.run import Checked
from migrator.run import Run
from migrator.sides import writelock
from migrator.switch import conditions
from tests.checks.conftest import ACCOUNTS, SERVICE, SHARED, Case
from tests.conftest import need, server_folder

MakeRole = Callable[..., str]
ORDERS = "CREATE TABLE app.orders (id serial PRIMARY KEY, note text, secret text)"
NOTE = "CREATE FUNCTION app.note() RETURNS text LANGUAGE sql AS $$SELECT 'n'$$"
REVOKED = "REVOKE EXECUTE ON FUNCTION app.note() FROM PUBLIC"
DEFAULT = "ALTER TABLE app.orders ALTER note SET DEFAULT app.note()"
SECURED = "ALTER TABLE app.orders ENABLE ROW LEVEL SECURITY"
STATISTICS = {"shared_preload_libraries": "pg_stat_statements"}


@contextmanager
def running(case: Case) -> Iterator[Run]:
    executor = Live(case.databases, "test")
    yield Run(case.context, case.databases, executor)
    executor.close()


def check(case: Case) -> Checked:
    with running(case) as run:
        return granting.check(run)


def statements(found: Checked) -> list[str]:
    return [lack.statement for lack in found.lacks]


@pytest.fixture
def moving(case: Case, role: MakeRole) -> Case:
    """Accounts and orders on both sides; ``parity_app`` may use them on the shared side alone."""
    role("parity_app")
    case.sql(
        SHARED, ORDERS, "GRANT USAGE ON SCHEMA app TO parity_app", "GRANT SELECT, INSERT ON app.orders TO parity_app"
    )
    case.sql(SHARED, "GRANT USAGE ON SEQUENCE app.orders_id_seq TO parity_app")
    case.sql(SERVICE, "CREATE SCHEMA app", ACCOUNTS, ORDERS)
    case.declare("app.accounts", "app.orders")
    return case


def close(case: Case) -> None:
    """Closed, as `prepare` leaves the service side."""
    sides.install(case.databases.service)
    with running(case) as run:
        for table in run.tables(SERVICE):
            writelock.create(run.executor, SERVICE, "wallet", table, closed=True)


def test_no_usage_on_the_schema_and_a_sequence_of_another_role_stop_the_cutover(moving: Case, role: MakeRole) -> None:
    """Nobody declared the role: the shared catalog knows it."""
    owner = role("parity_owner", "NOLOGIN", majors=(18,))
    close(moving)
    moving.sql(SERVICE, "ALTER TABLE app.orders ALTER id DROP DEFAULT", "DROP SEQUENCE app.orders_id_seq")
    moving.sql(SERVICE, "CREATE SEQUENCE app.orders_id_seq", f"ALTER SEQUENCE app.orders_id_seq OWNER TO {owner}")
    moving.sql(SERVICE, "ALTER TABLE app.orders ALTER id SET DEFAULT nextval('app.orders_id_seq')")
    moving.sql(SERVICE, "GRANT SELECT, INSERT ON app.orders TO parity_app")
    with running(moving) as run:
        reasons = list(conditions._grants(run, Side.SHARED, Side.SERVICE))
    usage, sequence = reasons[0], reasons[1]
    assert "role parity_app lacks USAGE on schema app (catalog): " in usage
    assert usage.endswith('GRANT USAGE ON SCHEMA "app" TO "parity_app";')
    assert "role parity_app lacks USAGE on sequence app.orders_id_seq (catalog): " in sequence
    assert sequence.endswith('GRANT USAGE ON SEQUENCE "app"."orders_id_seq" TO "parity_app";')
    with running(moving) as run:
        assert granting.apply(run).blocking == []
        assert list(conditions._grants(run, Side.SHARED, Side.SERVICE)) == []


def test_the_trial_finds_what_the_catalogs_do_not_say(moving: Case, role: MakeRole) -> None:
    """A function that is called by a function: no catalog knows of it."""
    close(moving)
    moving.sql(SERVICE, *statements(check(moving)))
    assert check(moving).blocking == []
    moving.sql(
        SERVICE,
        "CREATE FUNCTION app.inner_part() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN 'x'; END$$",
        "REVOKE EXECUTE ON FUNCTION app.inner_part() FROM PUBLIC",
        "CREATE FUNCTION app.outer_part() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN app.inner_part(); END$$",
        "ALTER TABLE app.orders ALTER note SET DEFAULT app.outer_part()",
    )
    assert check(moving).blocking == [
        "role parity_app cannot INSERT app.orders: permission denied for function inner_part"
    ]
    assert moving.sql(SERVICE, "SELECT count(*) FROM app.orders") == [(0,)]
    assert moving.sql(SERVICE, "SELECT count(*) FROM carveout.rogue_write") == [(0,)]


def test_every_kind_of_right_has_its_statement_and_the_statements_run(moving: Case, role: MakeRole) -> None:
    group, member = (
        role("parity_group", "NOLOGIN", majors=(16,)),
        role("parity_member", "LOGIN BYPASSRLS", majors=(16,)),
    )
    for statement in (
        f"GRANT {group} TO {member}",
        f"GRANT UPDATE (note) ON app.orders TO {group}",
        "GRANT SELECT ON app.accounts TO PUBLIC",
        NOTE,
        REVOKED,
        "GRANT EXECUTE ON FUNCTION app.note() TO parity_app",
        DEFAULT,
        SECURED,
        "ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO parity_app",
    ):
        moving.sql(SHARED, statement)
    for statement in (NOTE, REVOKED, DEFAULT, SECURED):
        moving.sql(SERVICE, statement)
    found = statements(check(moving))
    assert found[:3] == [
        'CREATE ROLE "parity_group" NOLOGIN;',
        'CREATE ROLE "parity_member" LOGIN;',
        'GRANT "parity_group" TO "parity_member";',
    ]
    assert set(found) >= {
        'ALTER ROLE "parity_member" BYPASSRLS;',
        'GRANT UPDATE ("note") ON "app"."orders" TO "parity_group";',
        'GRANT SELECT ON "app"."accounts" TO PUBLIC;',
        'GRANT EXECUTE ON FUNCTION "app"."note"() TO "parity_app";',
        'ALTER DEFAULT PRIVILEGES FOR ROLE "postgres" IN SCHEMA "app" GRANT SELECT ON TABLES TO "parity_app";',
    }
    moving.sql(SERVICE, *found)
    assert statements(check(moving)) == []
    moving.sql(SERVICE, "DROP OWNED BY parity_group, parity_member", "DROP ROLE parity_group, parity_member")


def test_a_reader_that_nobody_declared_may_be_left_behind(moving: Case) -> None:
    moving.sql(
        SHARED,
        "REVOKE INSERT ON app.orders FROM parity_app",
        "REVOKE USAGE ON SEQUENCE app.orders_id_seq FROM parity_app",
    )
    found = check(moving)
    assert found.lacks
    assert found.blocking == []
    moving.declare(grants=[{"role": "parity_app", "privileges": ["select"], "tables": ["app.orders"]}])
    assert any("(catalog; declared)" in reason for reason in check(moving).blocking)
    moving.declare(grants=[], options={"roles_left_behind": ["parity_app"]})
    assert check(moving).lacks == ()


def test_a_role_that_we_may_not_take_on_is_said_to_be_untried(moving: Case, role: MakeRole) -> None:
    close(moving)
    moving.sql(SERVICE, *statements(check(moving)))
    mover = role("parity_mover", "LOGIN", majors=(18,))
    moving.sql(SERVICE, f"GRANT SET ON PARAMETER session_replication_role TO {mover}")
    moving.sql(
        SERVICE, f"GRANT USAGE ON SCHEMA app TO {mover}", f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA app TO {mover}"
    )
    moving.connect_as(SERVICE, mover)
    found = check(moving)
    assert found.blocking == []
    [untried] = found.refusals
    assert str(untried).startswith("role parity_app cannot be tried: permission denied to set role")
    moving.sql(SERVICE, f"GRANT parity_app TO {mover}")
    assert check(moving).refusals == ()


def test_roles_are_known_from_use() -> None:
    """A superuser's grants show nothing, but the statistics do: here a role that reads through a group."""
    need("postgres15", 15 in available_majors(), "a server with pg_stat_statements")
    with server_folder() as folder, Server(folder / "s", 15, STATISTICS) as server:
        case = Case(Databases(Database(SHARED, server.url()), Database(SERVICE, server.url("template1"))))
        case.sql(SHARED, "CREATE SCHEMA app", ACCOUNTS, "CREATE EXTENSION pg_stat_statements")
        case.sql(
            SHARED,
            "CREATE ROLE teller LOGIN; GRANT USAGE ON SCHEMA app TO PUBLIC; GRANT SELECT ON app.accounts TO PUBLIC",
        )
        case.sql(SERVICE, "CREATE SCHEMA app", ACCOUNTS)
        with psycopg.connect(server.url(user="teller")) as conn:
            conn.execute("SELECT balance FROM app.accounts")
        found = _lacks(case)
        assert [(one.role, one.sources) for one in found if one.right == "SELECT"] == [("PUBLIC", ("catalog",))]
        case.sql(SHARED, "REVOKE ALL ON app.accounts FROM PUBLIC", "CREATE ROLE staff", "GRANT staff TO teller",
                 "GRANT SELECT ON app.accounts TO staff")  # fmt: skip
        [used] = [one for one in _lacks(case) if one.right == "SELECT" and one.role == "teller"]
        assert (used.sources, used.blocks) == (("used",), True)


def _lacks(case: Case) -> list[Lack]:
    with case.databases.shared.connect("test") as shared, case.databases.service.connect("test") as service:
        return lacks(shared, service, case.context)
