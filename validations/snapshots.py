"""Sessions that see a barrier's snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from contexts import sqlfiles
from contexts.databases import Connection, Database
from contexts.errors import CarveoutError
from contexts.model import TableName
from validations.barrier import Snapshot

_SQL = sqlfiles.load("validations", "snapshots.sql")


class SnapshotGone(CarveoutError):
    """A barrier's snapshot could not be imported."""

    transient = True


class Rewritten(CarveoutError):
    """A table was truncated or rewritten after the snapshot, which then sees it empty (PostgreSQL, mvcc-caveats)."""

    transient = True


def require_as_they_were(session: Connection) -> None:
    """Make sure that what this transaction has read is what its snapshot holds; its locks keep it so from then on.

    :raises Rewritten: it is not: another snapshot is needed.
    """
    if found := session.execute(_SQL["rewritten"]).fetchall():
        raise Rewritten(
            f"truncated or rewritten after the snapshot: {', '.join(str(TableName(*row)) for row in found)}",
            unchanged="what was read of it is not used",
            next_step="run the verification again",
        )


@contextmanager
def imported(snapshot: Snapshot, purpose: str, **settings: str) -> Iterator[Connection]:
    """A read-only session inside the snapshot; left by rolling back.

    :raises SnapshotGone: the barrier is over.
    """
    with snapshot.database.connect(purpose, autocommit=False, **settings) as session:
        enter(session, snapshot)
        yield session
        session.rollback()


def enter(session: Connection, snapshot: Snapshot) -> None:
    """Begin the session's transaction, read-only, in the snapshot.

    :raises SnapshotGone: who exported it has ended.
    """
    session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    session.read_only = True
    try:
        session.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot.snapshot)))
    except psycopg.Error as error:
        raise SnapshotGone(
            f"the {snapshot.database.side} side's snapshot {snapshot.snapshot} cannot be imported: {error}",
            unchanged="finished segments are kept",
            next_step="run the verification again: it goes on from there",
        ) from error


@contextmanager
def exported(database: Database, purpose: str) -> Iterator[Snapshot]:
    """A snapshot of one side alone, at whatever moment it is; it can be imported until left."""
    with database.connect(purpose, autocommit=False) as session:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.read_only = True
        row = session.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        yield Snapshot(database, row[0])
        session.rollback()
