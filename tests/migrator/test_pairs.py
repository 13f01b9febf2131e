"""The main job in short between server versions, with all common types: from each to itself and to the newest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from contexts.databases import Database, Databases
from contexts.embedded import Server
from contexts.model import Side
from migrator.switch import lastcheck
from tests.conftest import MAJORS, running_servers
from tests.migrator import inprocess
from tests.migrator.driving import switch
from tests.migrator.moving import Bank
from tests.stream.shapes import BY_NAME, SCHEMA, TYPES_SQL
from tests.waiting import wait_until

#: Also one that the check advises against: on the way back every stream runs to the older side.
PAIRS = [*((m, m) for m in MAJORS), *((m, 18) for m in MAJORS[:-1]), (14, 17), (15, 16), (18, 16)]
TABLES = ("typed", "indexed", "parted", "keyless")


@pytest.fixture(scope="module")
def second_servers() -> Iterator[Callable[[int], Server]]:
    """Another server of a major version, for pairs of equal versions."""
    with running_servers() as server:
        yield server


@pytest.fixture
def bank(
    request: pytest.FixtureRequest,
    new_database: Callable[[int, Side], Database],
    second_servers: Callable[[int], Server],
    tmp_path: Path,
) -> Bank:
    """The project of tables of all types, the shared side filled."""
    shared, service = request.param
    open_ = new_database(shared, Side.SHARED)
    closed = _second(second_servers(service)) if shared == service else new_database(service, Side.SERVICE)
    with open_.connect("test", search_path=SCHEMA) as conn:
        conn.execute(sql.SQL(TYPES_SQL + ";".join(BY_NAME[name].statements(closed=False) for name in TABLES)))
    write(open_, "1")
    tables = (BY_NAME[name].table for name in TABLES)
    return inprocess.project(tmp_path, Databases(open_, closed), "pairs", *tables, options="recheck_budget_ms = 5000")


def _second(server: Server) -> Database:
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute("CREATE DATABASE service")
    return Database(Side.SERVICE, server.url("service"))


def write(database: Database, number: str) -> None:
    """One transaction: every value of every type, and changes of what was there."""
    with database.connect("test", search_path=SCHEMA) as conn, conn.transaction():
        for name in TABLES:
            shape = BY_NAME[name]
            for place in range(max(map(len, shape.values.values()))):
                row = {column: values[place % len(values)] for column, values in shape.values.items()}
                if "id" in row:
                    row["id"] = f"{number}00 + {place}"
                conn.execute(
                    f"INSERT INTO {shape.table} ({', '.join(row)}) OVERRIDING SYSTEM VALUE"
                    f" VALUES ({', '.join(row.values())}) ON CONFLICT DO NOTHING".encode()
                )
        conn.execute("UPDATE h.parted SET k = 'b' WHERE k = 'a' AND id % 2 = 0; DELETE FROM h.keyless WHERE a = 2")
        conn.execute("UPDATE h.typed SET c_bool = NOT c_bool; UPDATE h.indexed SET v = v || 'x' WHERE n > 2")


def text(database: Database) -> list[bytes]:
    """Every row of all tables."""
    found: list[bytes] = []
    with database.connect("test") as conn:
        for name in TABLES:
            query = sql.SQL("COPY (SELECT tableoid::regclass, t.* FROM {} t) TO STDOUT").format(
                sql.Identifier(SCHEMA, name)
            )
            with conn.cursor().copy(query) as copy:
                found += sorted(bytes(line) for line in copy)
    return found


def prove(bank: Bank) -> None:
    """Equal by the verification's account, and by ours once all is applied."""
    bank.await_streaming()
    proof = inprocess.verify(bank)
    assert proof.passed, proof
    wait_until(lambda: text(bank.both.shared) == text(bank.both.service), bank.worker_log)


@pytest.mark.parametrize("bank", PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}", indirect=True)
def test_there_and_back(bank: Bank) -> None:
    inprocess.prepare(bank)
    with inprocess.worker(bank):
        bank.await_streaming()
        write(bank.both.shared, "2")
        prove(bank)
        report = switch(bank, Side.SERVICE)
        assert {missed["table"]: missed["why"] for missed in report.facts["not_rechecked"]} == {
            "h.keyless": lastcheck.NO_KEY,
            "h.indexed": lastcheck.OTHER_KEY,
        }
        write(bank.both.service, "3")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            write(bank.both.shared, "4")
        prove(bank)
        switch(bank, Side.SHARED)
        write(bank.both.shared, "5")
        prove(bank)
    assert len(text(bank.both.service)) > 40
