"""Real PostgreSQL servers for every test: started once, one database per test and side."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from contexts.databases import Database, Databases
from contexts.embedded import Server, available_majors
from contexts.model import Side

#: Folders whose files take long: begun first, so that no process is left alone with one in the end.
LONG = ("tests/kafka/", "tests/chaos/", "tests/lockstep/", "tests/migrator/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of a file stay on one process, and all that share the one Kafka stack on one."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    config.option.loadscopereorder = False  # the order is ours
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = lambda nodeid: "kafka" if nodeid.startswith("tests/kafka/") else nodeid.split("::", 1)[0]
    return scheduler


#: What Carveout is for. Where a server is missing, its tests are skipped.
MAJORS = (14, 15, 16, 17, 18)
REQUIRED = frozenset(filter(None, os.environ.get("CARVEOUT_REQUIRE", "").split(",")))


def need(part: str, present: bool, hint: str) -> None:
    """Skip where an optional part is missing, or fail where CI requires it."""
    if present:
        return
    if part in REQUIRED:
        pytest.fail(f"{part} is required by CARVEOUT_REQUIRE and missing: {hint}")
    pytest.skip(f"{part} is missing: {hint}")


@contextmanager
def server_folder() -> Iterator[Path]:
    """A folder that the servers' account may enter: pytest's own temporary folders are private to root."""
    folder = Path(tempfile.mkdtemp(prefix="carveout-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_servers() -> Iterator[Callable[[int], Server]]:
    """``running(16)``: a server of a major version, started at its first use and ended with the block."""
    running: dict[int, Server] = {}

    def server(major: int) -> Server:
        if major not in running:
            need(f"postgres{major}", major in available_majors(), "install that PostgreSQL server")
            running[major] = Server(folder / str(major), major).start()
        return running[major]

    with server_folder() as folder:
        yield server
        for one in running.values():
            one.stop()


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[int], Server]]:
    """``servers(16)``: the running server of a major version, started at its first use."""
    with running_servers() as server:
        yield server


_numbers = itertools.count(1)


@pytest.fixture
def new_database(servers: Callable[[int], Server]) -> Iterator[Callable[[int, Side], Database]]:
    """``new_database(16, Side.SHARED)``: an empty database on that server, dropped after the test."""
    yield from new_databases(servers)


@pytest.fixture
def pair(new_database: Callable[[int, Side], Database]) -> Databases:
    """A shared database on PostgreSQL 16 and a service database on 18, both empty."""
    return Databases(new_database(16, Side.SHARED), new_database(18, Side.SERVICE))


@pytest.fixture(scope="module")
def module_pair(servers: Callable[[int], Server]) -> Iterator[Databases]:
    """One :func:`pair` for all tests of a module, which must not mind each other."""
    for make in new_databases(servers):
        yield Databases(make(16, Side.SHARED), make(18, Side.SERVICE))


def new_databases(servers: Callable[[int], Server]) -> Iterator[Callable[[int, Side], Database]]:
    made: list[tuple[Server, str]] = []

    def make(major: int, side: Side) -> Database:
        server, name = servers(major), f"t{next(_numbers)}_{side}"
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute(f'CREATE DATABASE "{name}"')
        made.append((server, name))
        return Database(side, server.url(name))

    yield make
    for server, name in made:
        drop_database(server, name)


def drop_database(server: Server, name: str) -> None:
    """Drop a test's database with whatever slots the test left in it."""
    if server.process is None or server.process.poll() is not None:
        server.start()  # a test that crashes servers leaves them down
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
            " WHERE database = %s AND active_pid IS NOT NULL",
            (name,),
        )
        for (slot,) in conn.execute("SELECT slot_name FROM pg_replication_slots WHERE database = %s", (name,)):
            _drop_slot(conn, slot)
        for (gid,) in conn.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", (name,)).fetchall():
            with psycopg.connect(server.url(name), autocommit=True) as own:
                own.execute(f"ROLLBACK PREPARED '{gid}'")
        conn.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _drop_slot(conn: psycopg.Connection, slot: str) -> None:
    for _ in range(200):  # a terminated walsender frees its slot a moment later
        try:
            conn.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
            return
        except psycopg.errors.ObjectInUse:
            conn.execute("SELECT pg_sleep(0.02)")
        except psycopg.errors.UndefinedObject:
            return
