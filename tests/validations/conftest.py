from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from contexts.databases import Database, Databases
from contexts.embedded import Server
from contexts.model import Side


@pytest.fixture(scope="module")
def module_pair(servers: Callable[[int], Server], request: pytest.FixtureRequest) -> Iterator[Databases]:
    """One pair (16 and 18) for all tests of a module that put back what they change."""
    name = request.module.__name__.rpartition(".")[2]
    made = [(servers(16), f"{name}_shared", Side.SHARED), (servers(18), f"{name}_service", Side.SERVICE)]
    for server, database, _ in made:
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute(f'CREATE DATABASE "{database}"')
    shared, service = (Database(side, server.url(database)) for server, database, side in made)
    yield Databases(shared, service)
    for server, database, _ in made:
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute(f'DROP DATABASE "{database}" WITH (FORCE)')
