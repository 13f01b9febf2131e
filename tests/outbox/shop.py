"""A shop whose orders tell of themselves through an outbox, and the table in which its events arrive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contexts.databases import Database, Databases
from contexts.model import Side
from tests.migrator import inprocess
from tests.migrator.moving import Bank
from tests.waiting import wait_until

TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id int PRIMARY KEY, total numeric(10,2) NOT NULL);
CREATE TABLE shop.outbox (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL, aggregateid text, type text,
    payload jsonb, trace text
);
"""
DECLARED = """
[[outbox]]
table = "shop.outbox"
headers = { traceId = "trace" }

[outbox_sink]
kind = "table"
url = "%s"
table = "public.events"
"""
#: As ``cdc.outbox.sinks.table`` wants it.
EVENTS = """
CREATE TABLE public.events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, topic text NOT NULL, key text, event_id text NOT NULL,
    headers jsonb NOT NULL, payload bytea, at timestamptz NOT NULL, UNIQUE (topic, event_id)
)
"""


@dataclass
class Shop:
    """The moving shop, and where its events arrive."""

    bank: Bank
    arrived: Database

    @classmethod
    def create(
        cls, folder: Path, pair: Databases, arrived: Database, *tables: str, options: str = "", more: str = "",
        declared: str = "", copy_by: str = "auto",
    ) -> Shop:  # fmt: skip
        """Prepared, with no worker yet.

        :param more: further statements on the shared side.
        :param declared: instead of the usual declaration of outbox and sink.
        """
        with pair.shared.connect("test") as conn:
            conn.execute((TABLES + more).encode())
        with arrived.connect("test") as conn:
            conn.execute(EVENTS)
        bank = inprocess.project(
            folder, pair, "shop", "shop.orders", "shop.outbox", *tables, options=f"batch_age_ms = 10\n{options}",
            copy_by=copy_by,
        )  # fmt: skip
        bank.declare((declared or DECLARED) % arrived.url)
        for suite in (folder / "contexts" / "shop" / "suites").glob("*.json"):
            suite.unlink()
        inprocess.prepare(bank)
        return cls(bank, arrived)

    def on(self, side: Side, *statements: str) -> None:
        """One transaction."""
        with self.bank.both[side].connect("test", autocommit=False) as conn:
            for statement in statements:
                conn.execute(statement.encode())

    def tell(self, side: Side, key: str, numbers: Iterable[int], kind: str = "order") -> None:
        """One transaction per event; its payload holds its number."""
        with self.bank.both[side].connect("test") as conn:
            for number in numbers:
                conn.execute(
                    "INSERT INTO shop.outbox (aggregatetype, aggregateid, type, payload) VALUES (%s, %s, 'told', %s)",
                    (kind, key, f'{{"n": {number}}}'),
                )

    def events(self, columns: str = "convert_from(payload, 'UTF8')") -> list[tuple[Any, ...]]:
        """What has arrived, in its order."""
        with self.arrived.connect("test") as conn:
            return conn.execute(f"SELECT {columns} FROM public.events ORDER BY id".encode()).fetchall()

    def numbers(self, key: str) -> list[int]:
        """The numbers that were told of a key, as they arrived."""
        found = "((convert_from(payload, 'UTF8')::jsonb) ->> 'n')::int, key"
        return [number for number, of in self.events(found) if of == key]

    def await_numbers(self, key: str, wanted: Sequence[int]) -> None:
        """Wait until exactly these have arrived, in this order."""
        wait_until(
            lambda: len(self.numbers(key)) >= len(wanted),
            lambda: f"{self.numbers(key)} of {list(wanted)}\n{self.bank.worker_log()}",
        )
        assert self.numbers(key) == list(wanted)

    def waiting(self, side: Side) -> int:
        """How many events wait on a side."""
        with self.bank.both[side].connect("test") as conn:
            row = conn.execute("SELECT count(*) FROM carveout.outbox_event").fetchone()
        assert row is not None
        return int(row[0])
