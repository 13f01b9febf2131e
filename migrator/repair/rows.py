"""One batch of a repair: in one transaction of the closed side, at exactly the position of the barrier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from psycopg import sql

from cdc.copy import shape
from cdc.copy.relay import relay
from cdc.state.position import StreamId
from contexts.catalog import Table
from contexts.databases import Connection, Database
from contexts.errors import CarveoutError
from contexts.killpoints import kill_point
from migrator.lockstep import agreed
from validations.diff.model import Key
from validations.diff.sessions import Pair
from validations.diff.subject import Subject

#: Far below the worker's patience at the barrier: a statement that waits longer gives the batch up.
_LIMITS = {"lock_timeout": "5s", "statement_timeout": "10s"}
_POSITION = "SELECT end_lsn::text, owner::text FROM carveout.position WHERE context = %s AND epoch = %s"
#: The applier commits nothing meanwhile.
_LOCKED_POSITION = _POSITION + " FOR UPDATE"


class MovedOn(CarveoutError):
    """The closed side is not at the barrier any more; the batch was rolled back."""

    transient = True


class Standstill(Protocol):
    """What keeps the closed side at a barrier."""

    def lock(self, closed: Connection) -> None:
        """Let nobody move it on before this transaction ends.

        :raises MovedOn: somebody has already.
        """


@dataclass(frozen=True)
class Place:
    """Where the closed side stands, and which worker may move it on."""

    stream: StreamId
    row: tuple[Any, ...] | None

    @classmethod
    def at_barrier(cls, pair: Pair, stream: StreamId) -> Place:
        """As the barrier's closed snapshot shows it."""
        return cls(stream, pair.closed.execute(_POSITION, (stream.context, stream.epoch)).fetchone())

    def lock(self, closed: Connection) -> None:
        """Let nobody move it on before this transaction ends.

        :raises MovedOn: somebody has already.
        """
        held = closed.execute(_LOCKED_POSITION, (self.stream.context, self.stream.epoch)).fetchone()
        if held is None or held != self.row:
            raise _moved_on(self.stream.context)


def _moved_on(context: str) -> MovedOn:
    return MovedOn(
        f"context {context!r}: the closed side went on before the repair was written",
        unchanged="the batch was rolled back",
        next_step="run the repair again: it goes on from there",
    )


@dataclass(frozen=True)
class Held:
    """In lockstep: the writer's own transaction holds everything still since before the barrier.

    Unless lockstep was left meanwhile, which whoever has taken over the driver's lock may do: then the applier writes
    again what is only on the open side. So its position is locked, and the phase is asked for behind that.
    """

    stream: StreamId

    def lock(self, closed: Connection) -> None:
        """Make sure that it still does, and that the applier writes nothing before this transaction ends.

        :raises MovedOn: it has ended, lockstep was left, or the applier is at a long transaction.
        """
        context, known = self.stream.context, (self.stream.context, self.stream.epoch)
        try:
            closed.execute(_LOCKED_POSITION, known)
        except psycopg.errors.LockNotAvailable as error:
            raise _moved_on(context) from error
        if not (agreed.is_held(closed, context) and agreed.goes_on(closed, context)):
            raise _moved_on(context)


@contextmanager
def writer(closed: Database) -> Iterator[Connection]:
    """A session that writes past write locks, triggers and foreign keys, as the applier does."""
    with closed.connect("repair", autocommit=False, **_LIMITS) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.commit()
        yield conn
        with suppress(psycopg.OperationalError):  # what was committed is; the rest ended with the session
            conn.rollback()


def replace(pair: Pair, closed: Connection, place: Standstill, subject: Subject, keys: Sequence[Key]) -> None:
    """Make the closed side's rows with these keys what the open snapshot shows: delete all, copy what is there.

    The caller rolls back after an error.

    :raises MovedOn: the closed side is not at the barrier any more.
    :raises Rewritten: the open table was truncated or rewritten after the snapshot.
    :raises SchemaMismatch: the tables do not fit each other.
    :raises psycopg.Error: a server refused.
    """
    how = shape.match(subject.open, subject.closed)
    condition = shape.any_of([column.name for column in subject.key], keys)
    place.lock(closed)
    closed.execute(sql.SQL("DELETE FROM {} WHERE {}").format(_rows_of(subject.closed), condition))
    read = sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT (FORMAT {})").format(
        sql.SQL(", ").join(map(sql.Identifier, how.columns)),
        _rows_of(subject.open),
        condition,
        sql.SQL("binary" if how.binary else "text"),
    )
    relay(
        pair.open.pgconn, closed.pgconn, read.as_bytes(pair.open), shape.copy_in(how).as_bytes(closed), lambda _: None
    )
    pair.require_as_they_were()
    kill_point("repair.rows_written")
    closed.commit()


def _rows_of(table: Table) -> sql.Composed:
    """A partitioned table has its rows in its partitions, any other only in itself."""
    return sql.SQL("{}{}").format(sql.SQL("" if table.kind == "p" else "ONLY "), table.identifier())
