"""Each check of the server room that needs no special server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import conninfo

from contexts.databases import Database, Databases
from contexts.embedded import Server
from contexts.model import Side
from migrator.checks import Severity
from migrator.checks.server import clocks, transactions, versions
from tests.checks.conftest import ACCOUNTS, SERVICE, SHARED, Case, statements_of
from tests.checks.poolers import Pooler

BLOCKER, WARNING, INFO = Severity.BLOCKER, Severity.WARNING, Severity.INFO
QUIET_WHEN_CLEAN = (
    "versions", "same_database", "pooler", "wal_level", "slots", "connections", "wal_retention", "encodings",
    "collations", "settings", "clocks", "extensions", "prepared_transactions", "transactions",
)  # fmt: skip


def test_two_ordinary_servers_give_no_finding(case: Case) -> None:
    case.sql(SHARED, "ALTER TABLE app.accounts ADD name text UNIQUE")
    assert case.report(*QUIET_WHEN_CLEAN).findings == ()


def test_unsupported_versions_are_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "SUPPORTED", range(14, 18))
    found = case.only("versions")
    assert (found.severity, found.side) == (BLOCKER, SERVICE)
    assert found.message == "version 18 is not supported (14 to 17 are)"


def test_an_older_service_side_may_lack_something(new_database: Callable[[int, Side], Database]) -> None:
    case = Case(Databases(new_database(18, SHARED), new_database(16, SERVICE)))
    found = case.only("versions")
    assert (found.severity, found.side, found.object) == (WARNING, SERVICE, "server")


def test_one_database_cannot_be_both_sides(case: Case) -> None:
    case.databases = Databases(case.databases.shared, Database(SERVICE, case.databases.shared.url))
    found = case.only("same_database")
    assert found.severity is BLOCKER
    assert "name one and the same database" in found.message


def test_one_server_for_both_sides_is_worth_knowing(new_database: Callable[[int, Side], Database]) -> None:
    case = Case(Databases(new_database(16, SHARED), new_database(16, SERVICE)))
    assert case.only("same_database").severity is INFO


@pytest.fixture
def pooler(case: Case) -> Iterator[Callable[..., Pooler]]:
    """Puts a pooler between us and the shared side."""
    made: list[Pooler] = []

    def between(*, drop_options: bool = False, pool: bool = False) -> Pooler:
        port = int(conninfo.conninfo_to_dict(case.databases.shared.url)["port"] or 0)
        made.append(Pooler(port, drop_options=drop_options, pool=pool))
        url = conninfo.make_conninfo(case.databases.shared.url, port=made[-1].port)
        case.databases = Databases(Database(SHARED, url), case.databases.service)
        return made[-1]

    yield between
    for one in made:
        one.close()


def test_a_plain_proxy_is_fine(case: Case, pooler: Callable[..., Pooler]) -> None:
    pooler()
    assert case.find("pooler") == []


def test_session_settings_that_a_pooler_drops_are_a_blocker(case: Case, pooler: Callable[..., Pooler]) -> None:
    pooler(drop_options=True)
    found = case.only("pooler")
    assert (found.severity, found.side) == (BLOCKER, SHARED)
    assert "search_path" in found.message
    assert "not the pooler's" in found.fix


def test_transaction_pooling_is_a_blocker(case: Case, pooler: Callable[..., Pooler]) -> None:
    pooler(pool=True)
    found = case.only("pooler")
    assert (found.severity, found.side) == (BLOCKER, SHARED)
    assert "transaction pooling" in found.message


def test_settings_that_lose_wal_are_named(case: Case) -> None:
    case.sql(SERVICE, "ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
    case.sql(SERVICE, "ALTER SYSTEM SET idle_replication_slot_timeout = '2d'", "SELECT pg_reload_conf()")
    try:
        _until(case, "SHOW max_slot_wal_keep_size", "1GB")
        size, idle = case.find("wal_retention")
        assert (size.severity, size.side, size.object) == (WARNING, SERVICE, "max_slot_wal_keep_size")
        assert (idle.object, "is 2d" in idle.message) == ("idle_replication_slot_timeout", True)
        case.fix(size)
        case.fix(idle)
        _until(case, "SHOW max_slot_wal_keep_size", "-1")
        assert case.find("wal_retention") == []
    finally:
        case.sql(SERVICE, "ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()")


def _until(case: Case, query: str, wanted: str) -> None:
    """Wait for a reload of the configuration to reach the backends."""
    case.sql(
        SERVICE,
        "DO $$ BEGIN FOR i IN 1..500 LOOP"
        f" EXIT WHEN current_setting('{query.removeprefix('SHOW ')}') = '{wanted}'; PERFORM pg_sleep(0.01);"
        " END LOOP; END $$",
    )
    assert case.sql(SERVICE, query) == [(wanted,)]


def in_encoding(server: Server, name: str, encoding: str) -> str:
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    return server.url(name)


def test_encodings_that_cannot_hold_the_text(case: Case, servers: Callable[[int], Server]) -> None:
    server = servers(18)
    try:
        latin = Database(SERVICE, in_encoding(server, "checks_latin1", "LATIN1"))
        ascii_ = Database(SHARED, in_encoding(server, "checks_ascii", "SQL_ASCII"))
        shared, case.databases = case.databases.shared, Databases(case.databases.shared, latin)
        found = case.only("encodings")
        assert (found.severity, found.side, found.message[:9]) == (BLOCKER, SERVICE, "is LATIN1")
        assert """CREATE DATABASE "checks_latin1" TEMPLATE template0 ENCODING 'UTF8';""" in found.fix
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute("DROP DATABASE checks_latin1")
            conn.execute(statements_of(found.fix)[0])
        assert case.find("encodings") == []
        case.databases = Databases(ascii_, Database(SERVICE, shared.url))
        found = case.only("encodings")
        assert (found.severity, found.side, "SQL_ASCII" in found.message) == (BLOCKER, SHARED, True)
    finally:
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute("DROP DATABASE IF EXISTS checks_latin1")
            conn.execute("DROP DATABASE IF EXISTS checks_ascii")


def test_settings_that_applications_would_miss(case: Case) -> None:
    name = case.sql(SHARED, "SELECT current_database()")[0][0]
    case.sql(SHARED, f"ALTER DATABASE \"{name}\" SET TimeZone = 'Asia/Kolkata'")
    case.sql(SHARED, f'ALTER DATABASE "{name}" SET search_path = app, "$user"')
    zone, path = case.find("settings")
    assert (zone.severity, zone.side, zone.object) == (WARNING, SERVICE, "TimeZone")
    assert zone.message == "is 'UTC' here and 'Asia/Kolkata' on the shared side"
    assert """SET "search_path" = app, "$user";""" in path.fix
    case.fix(zone)
    case.fix(path)
    assert case.find("settings") == []


def test_our_own_roles_settings_are_not_the_applications(case: Case, role: Callable[..., str]) -> None:
    mover = role("checks_mover")
    case.sql(SHARED, f"ALTER ROLE {mover} SET TimeZone = 'Asia/Kolkata'")
    case.connect_as(SHARED, mover)
    assert case.find("settings") == []


@pytest.mark.parametrize(("ahead", "severity"), [(0.5, None), (2.0, WARNING), (-2.0, WARNING)])
def test_clocks_that_differ(
    case: Case, monkeypatch: pytest.MonkeyPatch, ahead: float, severity: Severity | None
) -> None:
    real = clocks._ahead_of_here_s

    def shifted(environment: object, side: Side) -> float:
        return real(environment, side) + (ahead if side is SERVICE else 0.0)  # type: ignore[arg-type]

    monkeypatch.setattr(clocks, "_ahead_of_here_s", shifted)
    assert [found.severity for found in case.find("clocks")] == ([severity] if severity else [])


def test_prepared_transactions_are_named(case: Case) -> None:
    case.sql(SHARED, "BEGIN", "INSERT INTO app.accounts VALUES (1, 1)", "PREPARE TRANSACTION 'it''s one'")
    case.sql(SERVICE, "BEGIN", "CREATE TABLE other ()", "PREPARE TRANSACTION 'two'")
    one, two = case.find("prepared_transactions")
    assert (one.severity, one.side, one.object) == (BLOCKER, SHARED, "transaction it's one")
    assert "holds locks on app.accounts" in one.message
    assert (two.severity, two.side) == (WARNING, SERVICE)
    assert statements_of(one.fix) == ["COMMIT PREPARED 'it''s one';", "ROLLBACK PREPARED 'it''s one';"]
    case.sql(SHARED, statements_of(one.fix)[0])
    case.sql(SERVICE, statements_of(two.fix)[1])
    assert case.find("prepared_transactions") == []


def test_old_transactions_that_write_are_named(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "IDLE_S", 0.0)
    with psycopg.connect(case.databases.shared.url, application_name="billing") as writer:
        writer.execute("SELECT 1")
        assert case.find("transactions") == []  # it has written nothing: no slot waits for it
        writer.execute("INSERT INTO app.accounts VALUES (1, 1)")
        found = case.only("transactions")
        assert (found.severity, found.side) == (WARNING, SHARED)
        assert "postgres (billing) in " in found.message
        assert "idle in transaction for " in found.message
        assert found.fix == f"SELECT pg_catalog.pg_terminate_backend({writer.info.backend_pid});"
        case.fix(found)
        with pytest.raises(psycopg.OperationalError):
            writer.execute("SELECT 1")
    assert case.find("transactions") == []


def test_transactions_that_may_not_be_seen_are_not_silence(case: Case, role: Callable[..., str]) -> None:
    case.connect_as(SHARED, role("checks_mover"))
    found = case.only("transactions")
    assert (found.severity, found.object) == (WARNING, "role checks_mover")
    assert found.fix == 'GRANT pg_read_all_stats TO "checks_mover";'
    case.fix(found)
    assert case.find("transactions") == []


def test_what_is_copied_is_said_and_what_cannot_be_seen(case: Case) -> None:
    service, shared = case.find("disk")
    assert (service.severity, shared.severity) == (INFO, INFO)
    assert service.message.startswith("1 tables with ")
    assert "free disk cannot be seen" in service.message


def test_a_limit_of_connections(case: Case, role: Callable[..., str]) -> None:
    mover = role("checks_mover")
    name = case.sql(SHARED, "SELECT current_database()")[0][0]
    case.sql(SHARED, f"ALTER ROLE {mover} CONNECTION LIMIT 3", f'ALTER DATABASE "{name}" CONNECTION LIMIT 4')
    case.connect_as(SHARED, mover)
    database, own = case.find("connections")
    assert (database.severity, database.object) == (BLOCKER, f"database {name}")
    assert (own.object, own.fix) == ("role checks_mover", 'ALTER ROLE "checks_mover" CONNECTION LIMIT 9;')
    case.fix(database)
    case.fix(own)
    assert case.find("connections") == []


def test_extensions_that_can_be_installed(case_15: Case) -> None:
    case = case_15
    case.sql(
        SHARED, "CREATE SCHEMA ext", "CREATE EXTENSION citext WITH SCHEMA ext", "CREATE EXTENSION pg_trgm",
        "CREATE EXTENSION btree_gist", "CREATE EXTENSION hstore",
        "CREATE DOMAIN app.name AS ext.citext", "ALTER TABLE app.accounts ADD names app.name[]",
        "ALTER TABLE app.accounts ADD note text", "CREATE INDEX ON app.accounts USING gin (note gin_trgm_ops)",
    )  # fmt: skip
    citext, trgm = case.find("extensions")
    assert (citext.severity, citext.side, citext.object) == (BLOCKER, SERVICE, "extension citext")
    assert "is used by app.accounts" in citext.message
    assert 'CREATE EXTENSION "citext" WITH SCHEMA "ext";' in citext.fix
    case.fix(citext)
    case.sql(SERVICE, "CREATE EXTENSION pg_trgm VERSION '1.4'")
    older = case.only("extensions")
    assert (older.severity, older.fix) == (WARNING, 'ALTER EXTENSION "pg_trgm" UPDATE;')
    assert trgm.object == older.object
    case.fix(older)
    assert case.find("extensions") == []


def test_extensions_that_cannot_be_had(role: object, new_database: Callable[[int, Side], Database]) -> None:
    case = Case(Databases(new_database(15, SHARED), new_database(18, SERVICE)))
    case.sql(SHARED, "CREATE SCHEMA app", ACCOUNTS, "CREATE EXTENSION hstore")
    case.sql(SHARED, "ALTER TABLE app.accounts ADD tags hstore DEFAULT ''")
    found = case.only("extensions")
    assert (found.severity, found.object) == (BLOCKER, "extension hstore")
    assert "does not offer it" in found.message


def test_named_collations_must_exist_there(case_15: Case) -> None:
    case = case_15
    case.sql(
        SHARED,
        "CREATE COLLATION app.folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        "ALTER TABLE app.accounts ADD email text COLLATE app.folded UNIQUE",
        'ALTER TABLE app.accounts ADD plain text COLLATE "C"',
    )
    found = case.only("collations")
    assert (found.severity, found.side, found.object) == (BLOCKER, SERVICE, "app.folded")
    assert "app.accounts.email use it" in found.message
    case.sql(SERVICE, "CREATE SCHEMA app")
    case.fix(found)
    assert case.find("collations") == []
    assert case.sql(SERVICE, "SELECT 'A' COLLATE app.folded = 'a'") == [(True,)]


def test_a_default_collation_of_another_order(case: Case, servers: Callable[[int], Server]) -> None:
    with psycopg.connect(servers(18).url(), autocommit=True) as conn:
        conn.execute("CREATE DATABASE checks_c TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        case.databases = Databases(case.databases.shared, Database(SERVICE, servers(18).url("checks_c")))
        assert case.find("collations") == []  # no text column moves
        case.sql(SHARED, "ALTER TABLE app.accounts ADD name text UNIQUE")
        found = case.only("collations")
        assert (found.severity, found.side) == (WARNING, SERVICE)
        assert "is C (libc) here and C.UTF-8 (libc) on the shared side: 1 text columns and 1 unique" in found.message
        with psycopg.connect(servers(18).url(), autocommit=True) as conn:
            conn.execute("DROP DATABASE checks_c")
            conn.execute(statements_of(found.fix)[0])
        assert case.find("collations") == []
    finally:
        with psycopg.connect(servers(18).url(), autocommit=True) as conn:
            conn.execute("DROP DATABASE IF EXISTS checks_c")


def test_indexes_of_an_older_collation_version(case_15: Case, servers: Callable[[int], Server]) -> None:
    server = servers(15)
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute(
            "CREATE DATABASE checks_icu TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8'"
        )
        conn.execute("SET allow_system_table_mods = on")
        conn.execute("UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'checks_icu'")
    try:
        url = server.url("checks_icu")
        case_15.databases = Databases(Database(SHARED, url), Database(SERVICE, case_15.databases.service.url))
        found = case_15.only("collations")
        assert (found.severity, found.side, found.object) == (WARNING, SHARED, "checks_icu")
        assert "built under version 1.0" in found.message
        case_15.fix(found)
        assert case_15.find("collations") == []
    finally:
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute("DROP DATABASE checks_icu WITH (FORCE)")
