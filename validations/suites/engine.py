"""SQLAlchemy engines whose every transaction sees one snapshot, read-only, through psycopg 3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.ext.compiler import compiles

from contexts.databases import Connection
from contexts.errors import CarveoutError
from contexts.model import Side
from validations.barrier import Snapshot


@compiles(sa.types.NullType, "postgresql")
def _unknown_type(*_: object, **__: object) -> str:
    """The library writes the type of every column: one that SQLAlchemy does not know must not spoil its table."""
    return "unknown"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine and what its server refused."""

    side: Side
    engine: sa.Engine
    #: What went wrong since it was emptied last, the first one first: the library keeps only texts of it.
    errors: list[Exception] = field(default_factory=list)


@contextmanager
def engine_of(snapshot: Snapshot, statement_s: float) -> Iterator[Engine]:
    """An engine on the snapshot's database; the library ends its transactions as it likes, each new one sees the same.

    For one table only: the library's names compare without case, so an engine's memory of quoted names would give
    ``"Id"`` of one table where another has ``id``.

    :param statement_s: how long a statement may run, in seconds.
    """

    errors: list[Exception] = []

    def connect() -> Connection:
        timeout = f"{max(1, int(statement_s * 1000))}ms"
        try:
            conn = snapshot.database.connect("suites", autocommit=False, statement_timeout=timeout, jit="off")
        except CarveoutError as error:
            errors.append(error)
            raise
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.read_only = True
        # Prepared means the extended protocol, in which a server refuses a second statement behind a semicolon.
        conn.prepare_threshold = 0
        return conn

    engine = sa.create_engine("postgresql+psycopg://", creator=connect, pool_size=1, max_overflow=1)
    enter = sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot.snapshot))

    def into_the_snapshot(conn: sa.Connection) -> None:
        session = conn.connection.driver_connection
        assert isinstance(session, psycopg.Connection)
        try:
            session.execute(enter, prepare=False)
        except psycopg.Error as error:
            errors.append(error)
            raise

    def remember(context: sa.engine.ExceptionContext) -> None:
        if isinstance(context.original_exception, Exception):
            errors.append(context.original_exception)

    sa.event.listen(engine, "begin", into_the_snapshot)
    sa.event.listen(engine, "handle_error", remember)
    try:
        yield Engine(snapshot.database.side, engine, errors)
    finally:
        engine.dispose()
