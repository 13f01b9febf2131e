"""What the tests of the copy share: contexts, snapshots, a control, and comparing both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cdc import copy, state
from cdc.copy import CopyProgress, CycleResult
from contexts.databases import Database, Databases
from contexts.model import Context, Options, Service, Table, TableName


class Control:
    """A control that records, and stops or pauses where a test wants it to."""

    def __init__(
        self, stop: Callable[[CopyProgress], bool] | None = None, paused: Callable[[], str | None] | None = None
    ) -> None:
        self.seen: list[CopyProgress] = []
        self.imported = 0
        self._stop, self._paused = stop, paused

    def should_stop(self) -> bool:
        return bool(self._stop and self.seen and self._stop(self.seen[-1]))

    def is_paused(self) -> str | None:
        return self._paused() if self._paused else None

    def snapshot_imported(self) -> None:
        self.imported += 1

    def progress(self, progress: CopyProgress) -> None:
        self.seen.append(progress)


def context(*tables: str | Table, **options: object) -> Context:
    """A context of these tables; small parts, two processes."""
    listed = tuple(t if isinstance(t, Table) else Table(name=TableName.parse(t)) for t in tables)
    return Context(
        name="wallet", tables=listed, service=Service(url="dbname=unused"), options=Options.model_validate(options)
    )


def both(pair: Databases, ddl: str) -> None:
    """Run the same DDL on both sides, and install the ledger on the closed one."""
    state.install(pair.service)
    for database in (pair.shared, pair.service):
        execute(database, ddl)


def execute(database: Database, statements: str) -> None:
    """Run statements in one transaction."""
    with database.connect("test", autocommit=False, search_path="public") as conn:
        conn.execute(statements.encode())


@contextmanager
def snapshot(database: Database) -> Iterator[str]:
    """An exported snapshot."""
    with database.connect("test", autocommit=False) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        row = conn.execute("SELECT pg_export_snapshot()").fetchone()
        assert row
        yield row[0]


def plan(pair: Databases, moved: Context) -> list[copy.Part]:
    """Plan from the shared to the service side."""
    with pair.shared.connect("test") as open_, pair.service.connect("test") as closed:
        return copy.plan(open_, closed, moved)


def cycle(pair: Databases, moved: Context, control: Control | None = None, deadline_s: float = 600.0) -> CycleResult:
    """Plan and run one cycle under a new snapshot."""
    plan(pair, moved)
    with snapshot(pair.shared) as exported:
        return copy.run_cycle(
            pair.shared, pair.service, moved,
            snapshot=exported, deadline_s=deadline_s, control=control or Control(),
        )  # fmt: skip


def rows(database: Database, table: str) -> list[str]:
    """All rows as text, sorted, with a value for each column."""
    with database.connect("test") as conn:
        return [row[0] for row in conn.execute(f"SELECT t::text FROM {table} t ORDER BY t::text".encode())]


def scalar(database: Database, query: str) -> object:
    """The one value of a query."""
    with database.connect("test") as conn:
        row = conn.execute(query.encode()).fetchone()
        assert row
        return row[0]


def assert_same(pair: Databases, *tables: str) -> None:
    """Both sides hold the same rows, and at least one."""
    for table in tables:
        there = rows(pair.shared, table)
        assert there, f"{table} is empty: nothing is compared"
        assert rows(pair.service, table) == there
