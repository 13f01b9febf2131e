"""Each check of the access room: our own role first, then the applications' roles."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from migrator.checks import Severity
from migrator.lifecycle import State
from tests.checks.conftest import ACCOUNTS, SERVICE, SHARED, Case, statements_of
from tests.checks.test_state import walk

BLOCKER, WARNING = Severity.BLOCKER, Severity.WARNING
MakeRole = Callable[..., str]
READ_AND_WRITE = [{"role": "checks_app", "privileges": ["select", "insert", "update"]}]


def test_a_superuser_lacks_nothing(case: Case) -> None:
    case.sql(SERVICE, "CREATE SCHEMA app", ACCOUNTS)
    names = ("replication_login", "replica_role", "rights", "grants", "forgotten_grants", "role_settings")
    assert case.report(*names).findings == ()


def test_replication_connections_are_tried(case: Case, role: MakeRole) -> None:
    mover = role("checks_mover")
    case.connect_as(SHARED, mover)
    found = case.only("replication_login")
    assert (found.severity, found.side, found.object) == (BLOCKER, SHARED, "role checks_mover")
    assert "permission denied to start WAL sender" in found.message
    assert found.fix == 'ALTER ROLE "checks_mover" REPLICATION;'
    case.fix(found)
    assert case.find("replication_login") == []


@pytest.mark.parametrize("side", [SHARED, SERVICE])
def test_session_replication_role_must_be_settable(case: Case, role: MakeRole, side: object) -> None:
    where = SHARED if side is SHARED else SERVICE
    case.connect_as(where, role("checks_mover"))
    found = case.only("replica_role")
    assert (found.severity, found.side) == (BLOCKER, where)
    assert found.fix == 'GRANT SET ON PARAMETER session_replication_role TO "checks_mover";'
    case.fix(found)
    assert case.find("replica_role") == []


def test_before_version_15_only_a_superuser_may_set_it(case_14: Case, role: MakeRole) -> None:
    case_14.connect_as(SERVICE, role("checks_mover", majors=(14,)))
    found = case_14.only("replica_role")
    assert (found.severity, found.side, found.fix) == (BLOCKER, SERVICE, 'ALTER ROLE "checks_mover" SUPERUSER;')
    case_14.fix(found)
    assert case_14.find("replica_role") == []


def test_every_missing_right_has_its_grant(case: Case, role: MakeRole) -> None:
    owner, mover = role("checks_owner", "NOLOGIN"), role("checks_mover")
    tables = ("CREATE TABLE app.orders (id serial PRIMARY KEY)", f"ALTER TABLE app.orders OWNER TO {owner}")
    case.sql(SHARED, *tables, f"ALTER TABLE app.accounts OWNER TO {owner}")
    case.sql(SERVICE, "CREATE SCHEMA app", *tables)
    case.declare("app.accounts", "app.orders")
    for side in (SHARED, SERVICE):
        case.connect_as(side, mover)
    found = case.find("rights")
    assert {f.severity for f in found} == {BLOCKER}
    fixes = {(f.side, f.fix) for f in found}
    everything = "DELETE, INSERT, SELECT, TRUNCATE, UPDATE"
    assert (SHARED, 'GRANT USAGE ON SCHEMA "app" TO "checks_mover";') in fixes
    assert (SERVICE, 'GRANT CREATE, USAGE ON SCHEMA "app" TO "checks_mover";') in fixes
    assert (SHARED, 'GRANT "checks_owner" TO "checks_mover" WITH INHERIT TRUE;') in fixes
    assert (SHARED, f'GRANT {everything} ON TABLE "app"."accounts", "app"."orders" TO "checks_mover";') in fixes
    assert (SERVICE, 'GRANT SELECT, UPDATE ON SEQUENCE "app"."orders_id_seq" TO "checks_mover";') in fixes
    assert sum("GRANT CREATE ON DATABASE" in fix for _, fix in fixes) == 2
    for one in found:
        case.fix(one)
    assert case.find("rights") == []


def test_membership_in_a_superuser_is_never_proposed(case: Case, role: MakeRole) -> None:
    case.connect_as(SHARED, role("checks_mover"))
    [found] = [f for f in case.find("rights") if f.object == "role postgres"]
    assert found.fix == 'ALTER TABLE "app"."accounts" OWNER TO "checks_mover";'


def test_a_missing_role_stops_the_start(case: Case, role: MakeRole) -> None:
    role("checks_app", "LOGIN", majors=(16,))
    role("checks_group", "NOLOGIN", majors=(16,))
    case.declare(grants=[*READ_AND_WRITE, {"role": "checks_group", "privileges": ["select"]}])
    app, group = case.find("grants")
    assert (app.severity, app.side, app.object) == (BLOCKER, SERVICE, "role checks_app")
    assert statements_of(app.fix) == ['CREATE ROLE "checks_app" LOGIN;']
    assert statements_of(group.fix) == ['CREATE ROLE "checks_group" NOLOGIN;']
    case.fix(app)
    case.fix(group)
    assert case.find("grants") == []
    case.sql(SERVICE, "DROP ROLE checks_app, checks_group")


def test_a_role_that_exists_nowhere_may_be_misspelt(case: Case) -> None:
    case.declare(grants=[{"role": "checks_aap", "privileges": ["select"]}])
    assert "is the name right?" in case.only("grants").message


@pytest.fixture
def granted(case: Case, role: MakeRole) -> Case:
    """A declared role with tables on both sides, a serial column, and no right on the service side."""
    app = role("checks_app")
    orders = "CREATE TABLE app.orders (id serial PRIMARY KEY, note text, secret text)"
    case.sql(SHARED, orders, f"GRANT SELECT ON app.accounts, app.orders TO {app}")
    case.sql(SHARED, f"GRANT INSERT ON app.accounts, app.orders TO {app}", f"GRANT UPDATE ON app.accounts TO {app}")
    case.sql(SHARED, f"GRANT UPDATE (note) ON app.orders TO {app}")
    case.sql(SERVICE, "CREATE SCHEMA app", ACCOUNTS, orders)
    case.declare("app.accounts", "app.orders", grants=READ_AND_WRITE)
    return case


def test_missing_grants_have_their_statements(granted: Case) -> None:
    found = granted.find("grants")
    assert {f.severity for f in found} == {WARNING}
    assert [f.fix for f in found] == [
        'GRANT USAGE ON SCHEMA "app" TO "checks_app";',
        'GRANT INSERT, SELECT, UPDATE ON "app"."accounts" TO "checks_app";',
        'GRANT INSERT, SELECT ON "app"."orders" TO "checks_app";',
        'GRANT UPDATE ("note") ON "app"."orders" TO "checks_app";',
        'GRANT USAGE ON SEQUENCE "app"."orders_id_seq" TO "checks_app";',
    ]
    for one in found:
        granted.fix(one)
    assert granted.find("grants") == []


def test_missing_grants_stop_a_running_stream_from_being_switched(granted: Case) -> None:
    walk(granted, State.PREPARED, State.COPYING, State.STREAMING)
    assert {f.severity for f in granted.find("grants")} == {BLOCKER}


def test_connect_and_the_owners_usage(granted: Case, role: MakeRole) -> None:
    owner = role("checks_owner", "NOLOGIN", majors=(18,))
    name = granted.sql(SERVICE, "SELECT current_database()")[0][0]
    granted.sql(SERVICE, f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC')
    granted.sql(SERVICE, f"ALTER TABLE app.accounts OWNER TO {owner}")
    found = {f.fix: f for f in granted.find("grants")}
    assert f'GRANT CONNECT ON DATABASE "{name}" TO "checks_app";' in found
    assert "foreign keys are checked" in found['GRANT USAGE ON SCHEMA "app" TO "checks_owner";'].message
    for one in found.values():
        granted.fix(one)
    assert granted.find("grants") == []


def test_a_grant_to_nobody_declared_is_a_forgotten_one(granted: Case, role: MakeRole) -> None:
    role("checks_reports")
    granted.sql(
        SHARED, "GRANT SELECT, DELETE ON app.accounts TO checks_reports", "GRANT SELECT ON app.orders TO PUBLIC"
    )
    granted.sql(
        SHARED, "GRANT DELETE ON app.accounts TO checks_app", "GRANT UPDATE (secret) ON app.orders TO checks_reports"
    )
    fixes = {f.fix.splitlines()[-1]: f for f in granted.find("forgotten_grants")}
    assert set(fixes) == {
        'REVOKE DELETE, SELECT ON "app"."accounts" FROM "checks_reports";',
        'REVOKE DELETE ON "app"."accounts" FROM "checks_app";',
        'REVOKE SELECT ON "app"."orders" FROM PUBLIC;',
        'REVOKE UPDATE ON "app"."orders" FROM "checks_reports";',
    }
    one = fixes['REVOKE DELETE, SELECT ON "app"."accounts" FROM "checks_reports";']
    assert (one.severity, one.object) == (WARNING, "app.accounts")
    assert "role checks_reports has DELETE, SELECT" in one.message
    for found in fixes.values():
        granted.fix(found)
    assert granted.find("forgotten_grants") == []


def test_a_grant_on_a_partition_counts_as_its_roots(case: Case, role: MakeRole) -> None:
    role("checks_app")
    case.sql(SHARED, "CREATE TABLE app.e (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    case.sql(SHARED, "CREATE TABLE app.e_1 PARTITION OF app.e FOR VALUES FROM (0) TO (9)")
    case.sql(SHARED, "GRANT SELECT ON app.e, app.e_1 TO checks_app", "GRANT DELETE ON app.e_1 TO checks_app")
    case.declare("app.e", grants=READ_AND_WRITE)
    found = case.only("forgotten_grants")
    assert (found.object, "has DELETE, which" in found.message) == ("app.e_1", True)


def test_an_application_that_logs_in_as_owner_is_forgotten_too(case: Case, role: MakeRole) -> None:
    owner = role("checks_owner")
    case.sql(SHARED, f"ALTER TABLE app.accounts OWNER TO {owner}")
    found = case.only("forgotten_grants")
    assert (found.severity, found.object) == (WARNING, "role checks_owner")
    case.declare(grants=[{"role": owner, "privileges": ["select"]}])
    assert case.find("forgotten_grants") == []


def test_role_settings_follow_without_showing_secrets(case: Case, role: MakeRole) -> None:
    app = role("checks_app")
    case.sql(
        SHARED,
        f"ALTER ROLE {app} SET search_path = app, public",
        f"ALTER ROLE {app} SET statement_timeout = '5s'",
        f"ALTER ROLE {app} SET app.token = 'hunter2'",
    )
    case.declare(grants=READ_AND_WRITE)
    path, timeout, token = sorted(case.find("role_settings"), key=lambda f: "app.token" in f.message)
    assert (path.severity, path.side, path.object) == (WARNING, SERVICE, "role checks_app")
    assert {path.fix, timeout.fix} == {
        'ALTER ROLE "checks_app" SET "search_path" = app, public;',
        """ALTER ROLE "checks_app" SET "statement_timeout" = '5s';""",
    }
    assert "hunter2" not in repr(token)
    case.fix(path)
    case.fix(timeout)
    assert case.find("role_settings") == [token]
