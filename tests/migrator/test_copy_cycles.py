"""Many cycles of the copy under live writes: rows move between ranges that are copied and ranges that are not."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from cdc.apply.exactpath import ExactPath
from contexts.databases import Connection, Databases
from contexts.model import Side
from tests.migrator import inprocess
from tests.migrator.moving import Bank
from tests.waiting import wait_until

ROWS = 600
#: The value is not compressed: what an update leaves alone is not in the stream.
TABLES = f"""
CREATE SCHEMA many;
CREATE TABLE many.numbered (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, big text);
CREATE TABLE many.named (k text COLLATE "C", id numeric, n int NOT NULL DEFAULT 0, big text, PRIMARY KEY (k, id));
ALTER TABLE many.numbered ALTER big SET STORAGE EXTERNAL;
ALTER TABLE many.named ALTER big SET STORAGE EXTERNAL;
INSERT INTO many.numbered SELECT i, 0, repeat(md5(i::text), 100) FROM generate_series(1, {ROWS}) i;
INSERT INTO many.named SELECT md5(i::text), i, 0, repeat(md5(i::text), 100) FROM generate_series(1, {ROWS}) i;
"""
SOME_NUMBERED = "(SELECT id FROM many.numbered ORDER BY random() LIMIT 1)"
SOME_NAMED = "(SELECT k FROM many.named ORDER BY random() LIMIT 1)"
WRITES = (
    # To anywhere else, the value stays where it is.
    f"UPDATE many.numbered SET id = 1 + (random() * 2 * {ROWS})::int, n = n + 1 WHERE id = {SOME_NUMBERED}",
    f"UPDATE many.named SET k = md5(random()::text), n = n + 1 WHERE k = {SOME_NAMED}",
    "UPDATE many.named SET id = id + 0.10 WHERE k < '01'",
    # To and fro in one transaction.
    "UPDATE many.numbered SET id = id + 10000 WHERE id < 9; UPDATE many.numbered SET id = id - 10000 WHERE id > 9999",
    f"UPDATE many.numbered SET n = n + 1 WHERE id % 100 = {SOME_NUMBERED} % 100",
    f"UPDATE many.named SET big = repeat(md5(random()::text), 100) WHERE k = {SOME_NAMED}",
    f"DELETE FROM many.numbered WHERE id = {SOME_NUMBERED}",
    f"DELETE FROM many.named WHERE k = {SOME_NAMED}",
    "INSERT INTO many.named SELECT md5(random()::text), 0, 0, repeat('new', 1000)",
    f"INSERT INTO many.numbered SELECT (random() * 2 * {ROWS})::int, 0, repeat('new', 1000) ON CONFLICT DO NOTHING",
)


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    with pair.shared.connect("test") as conn:
        conn.execute(sql.SQL(TABLES))
    made = inprocess.project(
        tmp_path, pair, "many", "many.numbered", "many.named", copy_by="key",
        # Late at once: each cycle begins one part, and no more.
        options="copy_part_mb = 1\ncopy_workers = 1\nmax_snapshot_age_s = 0.001",
    )  # fmt: skip
    for suite in (tmp_path / "contexts" / "many" / "suites").glob("*.json"):
        suite.unlink()  # no suite is done in the time that a snapshot may live here
    return made


@contextmanager
def writes(bank: Bank) -> Iterator[Counter[str]]:
    """Random writes without end on the shared side."""
    stop, done = threading.Event(), Counter[str]()
    chosen = random.Random(7)

    def write() -> None:
        with bank.both.shared.connect("shop") as conn:
            while not stop.wait(0.01):
                _write(conn, chosen.choices(WRITES, k=chosen.randint(1, 3)), done)

    thread = threading.Thread(target=write, name="writes")
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def _write(conn: Connection, statements: list[str], done: Counter[str]) -> None:
    try:
        with conn.transaction():
            for statement in statements:
                conn.execute(statement.encode())
        done["committed"] += 1
    except psycopg.errors.UniqueViolation:
        done["refused"] += 1


def test_rows_that_move_between_copied_and_other_ranges(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()
    _count_rows_that_are_brought_later(seen, monkeypatch)
    inprocess.prepare(bank)
    with writes(bank) as done, inprocess.worker(bank):
        wait_until(lambda: bank.state() == "streaming", bank.state, patience_s=180)  # a cycle starts processes
        bank.await_streaming()
        written = done["committed"]
        wait_until(lambda: done["committed"] > written + 20)
        found = inprocess.verify(bank)
    assert found.passed, found
    assert found.diff.rows > ROWS
    with bank.both.service.connect("test") as conn:
        cycles = conn.execute("SELECT count(DISTINCT cycle), count(*) FROM carveout.copy_part").fetchone()
        assert cycles is not None
        assert cycles[0] >= 4, f"cycles, parts: {cycles}"
        assert conn.execute("SELECT count(*) FROM carveout.copy_key").fetchone() == (0,)
    # The trap was met: a row came out of a range that was not copied, without its large value.
    assert seen["brought later"] > 0
    assert bank.state() == "streaming"
    assert rows(bank, Side.SHARED) > ROWS


def _count_rows_that_are_brought_later(seen: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    original = ExactPath._bring_later

    def counted(path: ExactPath, *arguments: Any) -> None:
        seen["brought later"] += 1
        original(path, *arguments)

    monkeypatch.setattr(ExactPath, "_bring_later", counted)


def rows(bank: Bank, side: Side) -> int:
    with bank.both[side].connect("test") as conn:
        row = conn.execute("SELECT (SELECT count(*) FROM many.numbered) + (SELECT count(*) FROM many.named)").fetchone()
    assert row is not None
    return int(row[0])
