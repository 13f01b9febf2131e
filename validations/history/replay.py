"""Replays the versions of a table up to a barrier and compares them with the rows that were there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

from cdc.lsn import format_lsn
from contexts import sqlfiles
from contexts.catalog import Table, read_tables
from contexts.databases import Connection, Database
from contexts.model import Context, Side, TableName
from validations.barrier import Barrier
from validations.history import tables
from validations.invariants.model import Invariant, Limits, Outcome, Result, Severity, Violation
from validations.snapshots import imported

_SQL = sqlfiles.load("validations.history", "replay.sql")
_Rows = Iterator[tuple[str, bytes]]


def declared(context: Context) -> tuple[Invariant, ...]:
    """What must hold of the tables with versions, as invariants: stored, shown and asked for like them."""
    return tuple(map(_invariant, tables.versioned(context)))


def check(context: Context, epoch: int, barrier: Barrier, service: Database, limits: Limits) -> tuple[Result, ...]:
    """Replay every table with versions.

    :param epoch: of the stream that the barrier is of.
    :raises CarveoutError: a server went away.
    """
    wanted = tables.versioned(context)
    if not wanted:
        return ()
    snapshot = barrier.open if barrier.open_side is Side.SERVICE else barrier.closed
    # The versions are read as they are now: those after a cutover are committed beside the rows, and only ever added.
    timeout = f"{max(1, int(limits.statement_s * 1000))}ms"
    with (
        imported(snapshot, "versions", statement_timeout=timeout) as rows,
        service.connect("versions", autocommit=False, statement_timeout=timeout) as versions,
    ):
        replay = _Replay(context, epoch, barrier.lsn, rows, versions, limits)
        return tuple(Result(_invariant(table), (replay.outcome(table),)) for table in wanted)


def _invariant(table: TableName) -> Invariant:
    return Invariant(
        name=f"versions {table}",
        proves=f"the versions of {table}, replayed, lead to its rows",
        sql=f"REPLAY {tables.name_of(table)}",
        severity=Severity.ERROR,
        sides=(Side.SERVICE,),
    )


@dataclass(frozen=True, slots=True)
class _Replay:
    context: Context
    epoch: int
    lsn: int
    rows: Connection
    versions: Connection
    limits: Limits

    def outcome(self, name: TableName) -> Outcome:
        began = time.monotonic()
        table = read_tables(self.rows, [name]).get(name)
        if table is None or not table.primary_key:
            return Outcome(Side.SERVICE, "there is no such table, or it has no primary key")
        columns = self._known(name)
        if columns is None:
            return Outcome(Side.SERVICE, "no baseline yet: one is made when the worker begins to stream to the service")
        if columns != tables.columns_of(table):
            return Outcome(
                Side.SERVICE, "the columns have changed since the baseline: start the worker again for a new one"
            )
        try:
            with self.rows.transaction(), self.versions.transaction():  # an error must not end the snapshot
                return self._compared(table, began)
        except psycopg.Error as failed:
            if failed.sqlstate is None:
                raise
            return Outcome(Side.SERVICE, f"{type(failed).__name__} ({failed.sqlstate})")

    def _known(self, name: TableName) -> list[str] | None:
        try:
            return tables.known(self.versions, self.context.name, name)
        except psycopg.errors.UndefinedTable:
            self.versions.rollback()
            return None

    def _compared(self, table: Table, began: float) -> Outcome:
        count, kept = 0, list[Violation]()
        for key in _differing(self._present(table), self._replayed(table)):
            count += 1
            if len(kept) < self.limits.keep_rows:
                kept.append(Violation(tuple(zip(table.primary_key, json.loads(key), strict=True))))
        milliseconds = (time.monotonic() - began) * 1000
        return Outcome(Side.SERVICE, rows=count, violations=tuple(kept), milliseconds=milliseconds)

    def _present(self, table: Table) -> _Rows:
        key = _key(tables.image(table.primary_key), table)
        image = tables.image(tables.columns_of(table))
        return _rows(self.rows, _SQL["present"].format(key=key, image=image, table=table.identifier()))

    def _replayed(self, table: Table) -> _Rows:
        query = _SQL["replayed"].format(
            versions=sql.Identifier(*tables.name_of(table.name)), epoch=sql.Literal(self.epoch),
            lsn=sql.Literal(format_lsn(self.lsn)),
            old_key=_key(sql.SQL("old"), table), new_key=_key(sql.SQL("new"), table),
        )  # fmt: skip
        return _rows(self.versions, query)


def _key(image: sql.Composable, table: Table) -> sql.Composable:
    """The texts of the primary key as a JSON array: one text for one key."""
    parts = sql.SQL(", ").join(sql.SQL("{} ->> {}").format(image, sql.Literal(name)) for name in table.primary_key)
    return sql.SQL("jsonb_build_array({})::text").format(parts)


def _rows(session: Connection, query: sql.Composed) -> _Rows:
    with session.cursor("carveout_versions") as cursor:
        cursor.itersize = 5_000
        yield from cursor.execute(query)


def _differing(ours: _Rows, theirs: _Rows) -> Iterator[str]:
    """The keys that are on one side only, or with another row; both come in the order of their bytes."""
    left, right = next(ours, None), next(theirs, None)
    while left is not None or right is not None:
        if left is not None and (right is None or left[0].encode() < right[0].encode()):
            yield left[0]
            left = next(ours, None)
        elif right is not None and (left is None or right[0].encode() < left[0].encode()):
            yield right[0]
            right = next(theirs, None)
        else:
            assert left is not None
            assert right is not None
            if left[1] != right[1]:
                yield left[0]
            left, right = next(ours, None), next(theirs, None)
