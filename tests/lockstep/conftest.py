"""A bank in lockstep: migrated to streaming once, entered and left by each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from contexts.databases import Databases
from contexts.model import Side
from migrator.lockstep import phase
from migrator.shims.direct import GatedConnections
from tests.migrator.driving import driver
from tests.migrator.inprocess import prepare, worker
from tests.migrator.moving import Bank
from tests.waiting import wait_until

OPTIONS = "batch_age_ms = 20\nlockstep_census_s = 0"


class Lockstepped(Bank):
    """A bank whose worker runs in this process."""

    @contextmanager
    def in_lockstep(self) -> Iterator[None]:
        """Enter, and leave at the end of the block; then both sides must be equal."""
        with driver(self) as run:
            phase.enter(run)
        try:
            yield
        finally:
            if self.state() == "lockstep":
                with driver(self) as run:
                    phase.leave(run, "the test is over")
        self.await_equal()

    def connections(self, wait_limit_s: float = 10.0) -> GatedConnections:
        """What an application adopts."""
        return GatedConnections(
            self.name,
            {side: lambda side=side: psycopg.connect(self.both[side].url) for side in Side},  # type: ignore[misc]
            wait_limit_s=wait_limit_s,
        )

    def audited(self) -> int:
        return self.count("SELECT audited FROM carveout.lockstep")

    def differences(self) -> list[tuple[object, ...]]:
        with self.both.service.connect("test") as conn:
            return conn.execute(
                "SELECT kind, table_name, key, columns FROM carveout.lockstep_difference ORDER BY id"
            ).fetchall()

    def prepared(self) -> int:
        return self.count("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()")

    def count(self, query: str) -> int:
        with self.both.service.connect("test") as conn:
            row = conn.execute(query.encode()).fetchone()
        return int(row[0] or 0) if row else 0

    def await_audited(self, transactions: int) -> None:
        wait_until(lambda: self.audited() >= transactions, lambda: f"{self.audited()} audited")


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> Iterator[Lockstepped]:
    """Streaming, with a worker."""
    made = Lockstepped.create(tmp_path_factory.mktemp("bank"), module_pair, options=OPTIONS)
    assert isinstance(made, Lockstepped)
    made.expand_variables()
    prepare(made)
    with worker(made):
        made.await_streaming()
        yield made


@pytest.fixture
def gated(bank: Lockstepped) -> Iterator[GatedConnections]:
    made = bank.connections()
    yield made
    made.close()


Pay = Callable[[psycopg.Connection], None]
