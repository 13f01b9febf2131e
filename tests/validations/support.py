"""Two databases with the same tables, barriers on quiescent servers, and a diff in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import IsolationLevel

from contexts.catalog import Table, read_tables
from contexts.databases import Connection, Database, Databases
from contexts.model import Side, TableName
from validations import state
from validations.barrier import Barrier, Snapshot
from validations.diff.model import Difference, DiffOptions, DiffResult
from validations.diff.run import diff
from validations.state.store import Verifications

OPEN = Side.SHARED


@dataclass
class Barriers:
    """Exports a snapshot of each side; right where nobody writes."""

    databases: Databases
    made: int = 0

    @contextmanager
    def __call__(self) -> Iterator[Barrier]:
        self.made += 1
        with _exported(self.databases.shared) as shared, _exported(self.databases.service) as service:
            yield Barrier(self.made, OPEN, shared, service)


@contextmanager
def _exported(database: Database) -> Iterator[Snapshot]:
    with database.connect("barrier", autocommit=False) as conn:
        conn.isolation_level = IsolationLevel.REPEATABLE_READ
        yield Snapshot(database, conn.execute("SELECT pg_export_snapshot()").fetchall()[0][0])
        conn.rollback()


@dataclass
class Sides:
    """The two sides of a test."""

    databases: Databases
    tables: tuple[str, ...] = ("t",)
    options: DiffOptions = field(default_factory=DiffOptions)

    def __post_init__(self) -> None:
        state.install(self.databases.service)
        self.barriers = Barriers(self.databases)
        self.store = Verifications(self.databases.service, "wallet")

    @property
    def names(self) -> list[TableName]:
        return [TableName("public", table) for table in self.tables]

    def both(self, *statements: str) -> None:
        for side in Side:
            self.on(side, *statements)

    def on(self, side: Side, *statements: str) -> None:
        with self.databases[side].connect("test", search_path="public") as conn:
            for statement in statements:
                conn.execute(statement)

    def read(self, side: Side) -> dict[TableName, Table]:
        with self.databases[side].connect("test") as conn:
            return read_tables(conn, self.names)

    def diff(self, **arguments: Any) -> DiffResult:
        return diff(
            self.barriers, self.read(OPEN), self.read(OPEN.other),
            arguments.pop("options", self.options), self.store, names=self.names, **arguments,
        )  # fmt: skip

    def found(self, result: DiffResult) -> list[Difference]:
        """The differences, in the order of key and kind."""
        differences = [difference for _, difference in self.store.differences(result.verification)]
        return sorted(differences, key=lambda d: (d.key, d.kind))


def fetch(conn: Connection, query: str) -> Sequence[Any]:
    return conn.execute(query).fetchall()


NewDatabase = Callable[[int, Side], Database]
