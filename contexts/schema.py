"""The schema of a service database: brings it up by revisions and compares it with the shared side."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from contexts import revisions, scaffold
from contexts.databases import Connection, Database, Databases
from contexts.errors import CarveoutError, ConfigError
from contexts.model import Context, TableName
from contexts.scaffold import Difference, Shape

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

log = logging.getLogger(__name__)

#: Targets with a name; any other is an Alembic revision of the context.
TABLES, HEAD = "tables", "head"
#: A lock is tried for this long in all, in short attempts that let the others through.
LOCK_PATIENCE_S = 60.0
_BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)


class RevisionFailed(CarveoutError):
    """A revision could not be applied."""


class TablesBusy(CarveoutError):
    """A revision did not get its locks in time."""

    transient = True


@dataclass(frozen=True)
class Check:
    """What :func:`check` saw."""

    #: The revisions that the service database is at, and those that it should be at.
    current: tuple[str, ...]
    head: tuple[str, ...]
    #: How many tables and partitions of the shared side were compared.
    tables: int
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """At head, and the sides have the same schema."""
        return self.current == self.head and self.tables > 0 and not self.differences


def upgrade(
    database: Database, context: Context, target: str = HEAD, *, patience_s: float = LOCK_PATIENCE_S
) -> tuple[str, ...]:
    """Bring the service database to ``target`` in one transaction; return the revisions it is at then.

    Locks are waited for in attempts of ``options.lock_timeout_ms``, since others use the tables meanwhile.

    :param target: ``tables`` (the first revision: what the copy needs), ``head``, or a revision.
    :raises RevisionFailed: the server refused a statement.
    :raises TablesBusy: a lock was not free for ``patience_s``.
    """
    from sqlalchemy.exc import DBAPIError

    deadline = time.monotonic() + patience_s
    pause_s = context.options.lock_timeout_ms / 1000
    while True:
        try:
            revisions.upgrade(
                database,
                _scripts(context),
                version_table=_version_table(context),
                version_schema=revisions.CONTROL_SCHEMA,
                target=_revision(context, target),
                lock_timeout_ms=context.options.lock_timeout_ms,
            )
            return current(database, context)
        except DBAPIError as error:
            if not isinstance(error.orig, _BUSY):
                raise _failed(context, error) from error
            if time.monotonic() > deadline:
                raise _busy(context, patience_s) from error
            log.info("context %s: tables are in use, trying the revision again", context.name)
            time.sleep(pause_s * random.uniform(0.5, 1.5))


def plan(database: Database, context: Context, target: str = HEAD) -> str:
    """The SQL that :func:`upgrade` would run; nothing is run."""
    return revisions.script(
        database,
        _scripts(context),
        version_table=_version_table(context),
        version_schema=revisions.CONTROL_SCHEMA,
        target=_revision(context, target),
    )


def current(database: Database, context: Context) -> tuple[str, ...]:
    """The revisions that the service database is at; empty before the first upgrade."""
    return revisions.current(database, version_table=_version_table(context), version_schema=revisions.CONTROL_SCHEMA)


def check(databases: Databases, context: Context) -> Check:
    """Whether the service database is at head and its tables are those of the shared side.

    Compares what :mod:`contexts.scaffold` can carry; of the rest :func:`contexts.scaffold.not_carried` tells.
    """
    names = context.table_names
    with databases.shared.connect("schema") as shared, databases.service.connect("schema") as service:
        left, right = _shape(shared, names), _shape(service, names)
    missing = [name for name in names if name not in {table.key for table in (*left.tables, *right.tables)}]
    differences = [Difference(f"table {name}", "exists", "no", "no") for name in missing]
    return Check(
        current(databases.service, context),
        revisions.revision_names(_scripts(context))[-1:],
        len(left.tables),
        (*differences, *scaffold.compare(left, right)),
    )


def _shape(conn: Connection, names: tuple[TableName, ...]) -> Shape:
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return scaffold.read_shape(conn, names)


def _scripts(context: Context) -> Path:
    folder = context.folder / "schema"
    if not any((folder / "versions").glob("*.py")):
        raise ConfigError(
            f"{folder / 'versions'}: holds no revision",
            unchanged="nothing was changed",
            next_step="write one, or make the context anew with carveout context new",
        )
    return folder


def _revision(context: Context, target: str) -> str:
    if target == TABLES:
        return revisions.revision_names(_scripts(context))[0]
    return "heads" if target == HEAD else target


def _version_table(context: Context) -> str:
    return f"schema_{context.name}"


def _failed(context: Context, error: DBAPIError) -> RevisionFailed:
    reason = str(error.orig).strip()
    return RevisionFailed(
        f"context {context.name!r}: {_scripts(context) / 'versions'}: {reason}",
        unchanged="the revisions run in one transaction: none was applied",
        next_step=f"correct the revision, then: carveout schema upgrade {context.name}",
    )


def _busy(context: Context, patience_s: float) -> TablesBusy:
    return TablesBusy(
        f"context {context.name!r}: the tables of the service database were in use for {patience_s:g} s",
        unchanged="no revision was applied",
        next_step=f"end long transactions there, then: carveout schema upgrade {context.name}",
    )
