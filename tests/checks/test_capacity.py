"""Checks that need a server of their own: settings that only a restart changes, and a standby."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from contexts.databases import Database, Databases
from contexts.embedded import Server
from migrator.checks import Severity
from migrator.checks.environment import opened
from migrator.checks.run import run_one
from tests.checks.conftest import SERVICE, Case, statements_of

BLOCKER, INFO = Severity.BLOCKER, Severity.INFO
OwnServer = Callable[..., Server]


@pytest.fixture
def poor(own_server: OwnServer, case: Case) -> tuple[Case, Server]:
    """The service side is a server that has next to nothing."""
    server = own_server(
        18, wal_level="replica", max_replication_slots="1", max_wal_senders="1", max_connections="9",
        max_prepared_transactions="0",
    )  # fmt: skip
    case.databases = Databases(case.databases.shared, Database(SERVICE, server.url()))
    return case, server


def test_what_a_poor_server_lacks(poor: tuple[Case, Server]) -> None:
    case, server = poor
    names = ("wal_level", "slots", "connections", "prepared_transactions", "settings")
    found = {finding.object: finding for finding in case.report(*names).findings}
    assert {name: finding.severity for name, finding in found.items()} == {
        "wal_level": BLOCKER,
        "max_replication_slots": BLOCKER,
        "max_wal_senders": BLOCKER,
        "server": BLOCKER,
        "max_prepared_transactions": INFO,
        "max_connections": INFO,
    }
    assert all(finding.side is SERVICE for finding in found.values())
    assert "no way back" in found["wal_level"].message
    assert found["max_replication_slots"].message == "0 of 1 are in use, 2 more are needed"
    _restart_with_the_fixes(case, server, [finding.fix for finding in found.values()])
    assert case.report(*names).findings == ()


def _restart_with_the_fixes(case: Case, server: Server, fixes: list[str]) -> None:
    for fix in fixes:
        case.sql(SERVICE, *statements_of(fix))
    written = case.sql(SERVICE, "SELECT name, setting FROM pg_file_settings WHERE sourcefile LIKE '%.auto.conf'")
    server.stop()
    # A setting of the command line beats the file: hand on what ALTER SYSTEM wrote.
    server.settings = {**server.settings, **dict(written)}
    server.start()


def test_slots_that_others_use_are_not_free(own_server: OwnServer, case: Case) -> None:
    server = own_server(16, max_replication_slots="3")
    case.databases = Databases(case.databases.shared, Database(SERVICE, server.url()))
    for name in ("backup", "carveout_wallet_1"):
        case.sql(SERVICE, f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
    assert case.find("slots") == []  # one of the two is ours
    case.sql(SERVICE, "SELECT pg_create_logical_replication_slot('carveout_wallet_two_1', 'pgoutput')")
    found = case.only("slots")
    assert found.message == "3 of 3 are in use, 1 more are needed"
    assert statements_of(found.fix) == ['ALTER SYSTEM SET "max_replication_slots" = 4;']


def test_a_standby_takes_no_part(own_server: OwnServer, case: Case) -> None:
    server = own_server(16)
    server.stop()
    (server.folder / "data" / "standby.signal").touch()
    server.start()
    case.databases = Databases(case.databases.shared, Database(SERVICE, server.url()))
    [found] = [finding for finding in case.find("versions") if finding.severity is BLOCKER]
    assert (found.side, "is a standby" in found.message) == (SERVICE, True)


def test_a_server_that_goes_away_is_no_silence(own_server: OwnServer, case: Case) -> None:
    server = own_server(16)
    case.databases = Databases(case.databases.shared, Database(SERVICE, server.url()))
    with opened(case.project, case.context) as environment:
        server.stop(immediate=True)
        for name in ("wal_level", "target_rows", "settings", "replication_login"):
            *_, last = run_one(name, environment)
            assert (last.check, last.severity, last.side) == (name, BLOCKER, SERVICE)
            assert "the connection is lost" in last.message
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url())
