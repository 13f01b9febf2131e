"""A shared database whose real change stream is applied to a service database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from cdc import state
from cdc.apply import FULL, Applier, Coverage, SourceTypes
from cdc.events import Transaction
from cdc.state import position
from cdc.state.position import Position, StreamId
from contexts.databases import Connection, Databases
from contexts.model import Options, TableName
from tests.apply.decode import Slot

STREAM = StreamId("wallet", 1)
OPTIONS = Options(batch_age_ms=3_600_000)


class World:
    """Both databases, the slot between them, and one applier at a time."""

    def __init__(self, pair: Databases) -> None:
        self.pair = pair
        self.shared: Connection = pair.shared.connect("test")
        self.service: Connection = pair.service.connect("test")
        self.tables: list[TableName] = []
        self.slot: Slot
        self.applier: Applier
        state.install(pair.service)
        position.create(self.service, STREAM, Position("7", 1, "s", 0))

    def both(self, statements: str) -> None:
        """Run DDL on both sides."""
        for conn in (self.shared, self.service):
            conn.execute("SET search_path = public")
            conn.execute(statements)
            conn.execute("SET search_path = pg_catalog")

    def start(self, *tables: str, **applier: Any) -> Applier:
        """Publish ``tables``, begin the stream and open an applier."""
        self.tables = [TableName.parse(table) for table in tables]
        names = ", ".join(".".join(f'"{p.replace(chr(34), chr(34) * 2)}"' for p in t) for t in self.tables)
        self.shared.execute(f"CREATE PUBLICATION p FOR TABLE {names}")
        self.slot = Slot(self.shared, "p", f"s{uuid.uuid4().hex[:12]}")
        return self.open(**applier)

    def open(self, *, options: Options = OPTIONS, coverage: Coverage = FULL, **more: Any) -> Applier:
        """Open an applier, which takes the stream over."""
        self.applier = Applier(
            self.pair.service, STREAM, self.tables, options, owner=uuid.uuid4(), coverage=coverage,
            source=SourceTypes(self.pair.shared), **more,
        )  # fmt: skip
        return self.applier

    def write(self, *statements: str) -> None:
        """Run statements on the shared side as one transaction."""
        self.shared.execute("SET search_path = public")
        with self.shared.transaction():
            for statement in statements:
                self.shared.execute(statement)
        self.shared.execute("SET search_path = pg_catalog")

    def read(self) -> list[Transaction]:
        return self.slot.read()

    def replicate(self) -> None:
        """Apply and commit everything that the stream holds, as one batch."""
        for transaction in self.read():
            self.applier.apply(transaction)
        self.applier.commit()

    def rows(self, conn: Connection, table: str, columns: str = "*") -> list[bytes]:
        """The rows of a table as the lines of COPY, sorted."""
        with conn.cursor().copy(f"COPY (SELECT {columns} FROM {table}) TO STDOUT") as copy:
            return sorted(bytes(line) for line in copy)

    def same(self, *tables: str, columns: str = "*") -> list[bytes]:
        """Assert that both sides hold the same rows, and return them."""
        found: list[bytes] = []
        for table in tables or [str(table) for table in self.tables]:
            rows = self.rows(self.shared, table, columns)
            assert self.rows(self.service, table, columns) == rows
            found += rows
        return found

    def close(self) -> None:
        if hasattr(self, "applier"):
            self.applier.close()
        self.shared.close()
        self.service.close()


@pytest.fixture
def world(pair: Databases) -> Iterator[World]:
    made = World(pair)
    yield made
    made.close()


@pytest.fixture(params=["fast", "exact"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test once with sets of rows however few there are, and once row by row."""
    monkeypatch.setattr("cdc.apply.writer.FEW", 0 if request.param == "fast" else 1 << 30)
    return str(request.param)
