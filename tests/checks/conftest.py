"""A migration between two real databases, whose catalogs each test shapes as it likes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from contexts.databases import Database, Databases
from contexts.embedded import Server
from contexts.model import Context, Project, Side
from migrator.checks import Finding, Report, run_checks
from tests.conftest import server_folder

SHARED, SERVICE = Side.SHARED, Side.SERVICE
ACCOUNTS = "CREATE TABLE app.accounts (id int PRIMARY KEY, balance numeric(20, 2) NOT NULL)"


@dataclass
class Case:
    """Both databases and a context over ``app.accounts``."""

    databases: Databases
    fields: dict[str, Any] = field(default_factory=lambda: {"tables": [{"name": "app.accounts"}]})

    def sql(self, side: Side, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the superuser with a session's ordinary settings; the last one's rows."""
        with psycopg.connect(self._as_superuser(side), autocommit=True) as conn:
            cursor = [conn.execute(statement) for statement in statements][-1]
            return cursor.fetchall() if cursor.description else []

    def declare(self, *tables: str, **fields: Any) -> None:
        """Set the context's tables, where some are given, and other keys."""
        if tables:
            self.fields["tables"] = [{"name": table} for table in tables]
        self.fields.update(fields)

    @property
    def context(self) -> Context:
        url = self.databases.service.url
        return Context.model_validate({"name": "wallet", "service": {"url": url}, **self.fields})

    @property
    def project(self) -> Project:
        return Project.model_validate({"shared": {"url": self.databases.shared.url}})

    def report(self, *only: str) -> Report:
        """Run the checks as a user's call does."""
        return run_checks(self.project, self.context, only)

    def find(self, check: str) -> list[Finding]:
        """What one check finds."""
        return list(self.report(check).findings)

    def only(self, check: str) -> Finding:
        """The one thing that a check finds."""
        found = self.find(check)
        assert len(found) == 1, found
        return found[0]

    def fix(self, finding: Finding) -> None:
        """Run the statements of a finding's fix on its side."""
        assert finding.side is not None
        self.sql(finding.side, *statements_of(finding.fix))

    def connect_as(self, side: Side, role: str) -> None:
        """From now on Carveout logs in with ``role`` on that side."""
        database = self.databases[side]
        changed = Database(side, conninfo.make_conninfo(database.url, user=role))
        parts = {SHARED: self.databases.shared, SERVICE: self.databases.service, side: changed}
        self.databases = Databases(parts[SHARED], parts[SERVICE])

    def _as_superuser(self, side: Side) -> str:
        return conninfo.make_conninfo(self.databases[side].url, user="postgres")


def statements_of(fix: str) -> list[str]:
    """The statements in a fix: its lines without comments."""
    return [line.split(" -- ")[0] for line in fix.splitlines() if not line.startswith("--")]


@pytest.fixture
def role(servers: Callable[[int], Server]) -> Iterator[Callable[..., str]]:
    """``role("x", "REPLICATION", majors=(16,))``: a role on those servers, dropped after the databases."""
    made: list[tuple[str, str]] = []

    def make(name: str, attributes: str = "LOGIN", majors: tuple[int, ...] = (16, 18)) -> str:
        for major in majors:
            url = servers(major).url()
            made.append((url, name))
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute(f'CREATE ROLE "{name}" {attributes}')
        return name

    yield make
    for url, name in reversed(made):
        with psycopg.connect(url, autocommit=True) as conn:
            if conn.info.server_version >= 150000:
                for (granted,) in conn.execute("SELECT parname FROM pg_parameter_acl").fetchall():
                    conn.execute(f'REVOKE ALL ON PARAMETER "{granted}" FROM "{name}"')
            conn.execute(f'DROP ROLE "{name}"')


@pytest.fixture
def case(role: object, pair: Databases) -> Case:
    """PostgreSQL 16 to 18; ``app.accounts`` is on the shared side, the service database is empty."""
    made = Case(pair)
    made.sql(SHARED, "CREATE SCHEMA app", ACCOUNTS)
    return made


@pytest.fixture
def case_14(role: object, new_database: Callable[[int, Side], Database]) -> Case:
    """The oldest supported version on both sides."""
    made = Case(Databases(new_database(14, SHARED), new_database(14, SERVICE)))
    made.sql(SHARED, "CREATE SCHEMA app", ACCOUNTS)
    return made


@pytest.fixture
def case_15(role: object, new_database: Callable[[int, Side], Database]) -> Case:
    """PostgreSQL 15 with its extensions and ICU on both sides."""
    made = Case(Databases(new_database(15, SHARED), new_database(15, SERVICE)))
    made.sql(SHARED, "CREATE SCHEMA app", ACCOUNTS)
    return made


@pytest.fixture
def own_server() -> Iterator[Callable[..., Server]]:
    """``own_server(16, wal_level="replica")``: a server that no other test uses."""
    running: list[Server] = []

    def start(major: int, **settings: str) -> Server:
        running.append(Server(folder / str(len(running)), major, settings).start())
        return running[-1]

    with server_folder() as folder:
        yield start
        for server in running:
            server.stop()
