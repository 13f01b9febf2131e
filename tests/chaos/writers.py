"""Random transactions without end: small tables of several shapes, hot keys, and every way in which a row can move."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Self

import psycopg
from psycopg import sql

from contexts.databases import Connection, Database

ROWS = 300
#: Keys from 0 to ``HOT`` take most writes; those from ``COLD`` on take none.
HOT, COLD = 12, 1_000
TABLES = f"""
CREATE SCHEMA chaos;
CREATE TABLE chaos.account (id bigint PRIMARY KEY, balance numeric(14, 2) NOT NULL, note text, at timestamptz);
CREATE TABLE chaos.entry (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account bigint NOT NULL,
                          amount numeric NOT NULL, doc jsonb, list int[]);
CREATE TABLE chaos.named (name text COLLATE "C", part numeric, n int NOT NULL, big text, PRIMARY KEY (name, part));
CREATE TABLE chaos.worded (word text PRIMARY KEY, rate float8);
CREATE TABLE chaos.bag (a int, b text);
ALTER TABLE chaos.bag REPLICA IDENTITY FULL;
ALTER TABLE chaos.named ALTER big SET STORAGE EXTERNAL;
INSERT INTO chaos.account SELECT i, 100, 'n', now() FROM generate_series(0, {ROWS}) i;
INSERT INTO chaos.account SELECT i, 100, 'cold', now() FROM generate_series({COLD}, {COLD + 9}) i;
INSERT INTO chaos.entry (account, amount) SELECT i % 50, i FROM generate_series(1, {ROWS}) i;
INSERT INTO chaos.named SELECT 'k' || i, i, 0, repeat('big', 1000) FROM generate_series(1, {HOT}) i;
INSERT INTO chaos.worded SELECT 'w' || i, i FROM generate_series(1, {ROWS}) i;
INSERT INTO chaos.bag SELECT i % 7, 'b' FROM generate_series(1, {HOT}) i;
ANALYZE;
"""
NAMES = ("chaos.account", "chaos.entry", "chaos.named", "chaos.worded", "chaos.bag")
_ONE = f"(random() * {HOT})::int"
_ONE_BAG_ROW = "ctid = (SELECT ctid FROM chaos.bag ORDER BY random() LIMIT 1)"
STATEMENTS = (
    f"UPDATE chaos.account SET balance = balance + 0.01, at = now() WHERE id = {_ONE}",
    f"UPDATE chaos.account SET balance = balance - 1, note = repeat('x', (random() * 9)::int) WHERE id < {_ONE}",
    f"UPDATE chaos.account SET note = NULL WHERE id = {_ONE}",
    f"DELETE FROM chaos.account WHERE id = {_ONE}",
    f"INSERT INTO chaos.account SELECT {_ONE}, 100, '', now() ON CONFLICT DO NOTHING",
    "INSERT INTO chaos.entry (account, amount, doc, list)"
    f" SELECT i, random()::numeric, '{{\"a\": 1.0}}', '{{1,NULL}}' FROM generate_series(0, {_ONE}) i",
    f"DELETE FROM chaos.entry WHERE id IN (SELECT id FROM chaos.entry WHERE id >= {HOT} ORDER BY id LIMIT {_ONE})",
    "UPDATE chaos.entry SET amount = -amount, doc = NULL WHERE id = (SELECT max(id) FROM chaos.entry)",
    f"UPDATE chaos.named SET n = n + 1 WHERE name = 'k' || {_ONE}",
    f"UPDATE chaos.named SET part = part + 1 WHERE name = 'k' || {_ONE}",
    f"UPDATE chaos.named SET name = name || 'x' WHERE name = 'k' || {_ONE}",
    "UPDATE chaos.named SET name = rtrim(name, 'x') WHERE name LIKE '%x'",
    f"UPDATE chaos.named SET big = repeat(md5(random()::text), 100) WHERE name = 'k' || {_ONE}",
    f"UPDATE chaos.worded SET rate = -rate WHERE word = 'w' || {_ONE}",
    f"UPDATE chaos.worded SET word = word || '!' WHERE word = 'w' || {_ONE}",
    "UPDATE chaos.worded SET word = rtrim(word, '!') WHERE word LIKE '%!'",
    f"INSERT INTO chaos.bag SELECT {_ONE}, 'b' FROM generate_series(1, 2)",
    f"DELETE FROM chaos.bag WHERE {_ONE_BAG_ROW}",
    f"UPDATE chaos.bag SET a = a + 1 WHERE {_ONE_BAG_ROW}",
)
#: Left to each other they would only grow: one of them now and then.
RARE = (
    "INSERT INTO chaos.entry (account, amount) SELECT i % 9, i FROM generate_series(1, 3000) i",
    # The sequence runs ahead where inserts are rolled back: but for the first rows none might be left, as suites say.
    f"DELETE FROM chaos.entry WHERE id >= {HOT} AND id < (SELECT max(id) - {ROWS} FROM chaos.entry)",
    f"DELETE FROM chaos.bag WHERE ctid NOT IN (SELECT ctid FROM chaos.bag LIMIT {3 * HOT})",
    "TRUNCATE chaos.bag",
    "UPDATE chaos.worded SET rate = rate + 1",
)
_REFUSED = (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected)


class Writers:
    """Threads that write until the block is left; fails where one failed.

    :param pause_s: between two transactions of one thread.
    """

    def __init__(self, database: Database, *, threads: int = 3, pause_s: float = 0.004, seed: int = 0) -> None:
        self.done: Counter[str] = Counter()
        self._database, self._pause_s, self._stop = database, pause_s, threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed}/{n}"),), name=f"writer {n}")
            for n in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self._failures, self._failures

    def _run(self, chosen: random.Random) -> None:
        try:
            with self._database.connect("chaos") as conn:
                while not self._stop.wait(self._pause_s * chosen.random() * 2):
                    self._write(conn, chosen)
        except BaseException as error:
            self._failures.append(error)

    def _write(self, conn: Connection, chosen: random.Random) -> None:
        pool = RARE if chosen.random() < 0.01 else STATEMENTS
        try:
            with conn.transaction():
                for statement in chosen.choices(pool, k=chosen.randint(1, 4)):
                    self._step(conn, statement, chosen)
                if chosen.random() < 0.02:  # a transaction that is open while barriers come and go
                    self._stop.wait(0.2)
                if chosen.random() < 0.05:
                    raise psycopg.Rollback
            self.done["transactions"] += 1
        except _REFUSED as error:
            self.done[type(error).__name__] += 1

    def _step(self, conn: Connection, statement: str, chosen: random.Random) -> None:
        if chosen.random() > 0.2:
            conn.execute(sql.SQL(statement))
            return
        with conn.transaction():
            conn.execute(sql.SQL(statement))
            if chosen.random() < 0.5:
                raise psycopg.Rollback
