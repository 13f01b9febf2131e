"""The store of violations, on the side that the stream writes to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from cdc.lsn import format_lsn, parse_lsn
from cdc.state.position import StreamId
from contexts import sqlfiles
from contexts.databases import Connection
from contexts.model import Side, TableName
from validations.rules.model import Recorded, Violation

_SQL = sqlfiles.load("validations.rules", "store.sql")


def record(conn: Connection, stream: StreamId, found: Iterable[Violation], *, applied: bool) -> list[int]:
    """Store violations, each once however often its transaction passes; returns their numbers.

    :param applied: their rows are written in the same transaction.
    """
    return [int(conn.execute(_SQL["record"], _values(stream, one, applied)).fetchall()[0][0]) for one in found]


def accepted(conn: Connection, stream: StreamId) -> set[tuple[int, str]]:
    """Commit position and rule of what may pass."""
    rows = conn.execute(_SQL["accepted"], (stream.context, stream.epoch)).fetchall()
    return {(parse_lsn(lsn), rule) for lsn, rule in rows}


def accept(conn: Connection, context: str, number: int, reason: str | None) -> bool:
    """Let a violation's transaction pass; False where this side has none of that number, or it was accepted before."""
    return conn.execute(_SQL["accept"], (reason, number, context)).rowcount == 1


def read(conn: Connection, context: str, side: Side) -> list[Recorded]:
    """All violations that a side has, the oldest first; none where the table is not there yet."""
    try:
        return [_recorded(side, row) for row in conn.execute(_SQL["read"], (context,)).fetchall()]
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return []


def count(conn: Connection, context: str) -> int:
    """How many rows and groups have broken a rule, by what this side has."""
    try:
        return int(conn.execute(_SQL["count"], (context,)).fetchall()[0][0])
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return 0


def _values(stream: StreamId, one: Violation, applied: bool) -> dict[str, Any]:
    return {
        "context": stream.context,
        "epoch": stream.epoch,
        "rule": one.rule,
        "kind": one.kind,
        "policy": one.policy,
        "schema": one.table.schema,
        "table": one.table.name,
        "xid": one.xid,
        "lsn": format_lsn(one.commit_lsn),
        "committed_at": one.committed_at,
        "violations": one.count,
        "keys": Jsonb(one.keys),
        "applied": applied,
    }


def _recorded(side: Side, row: tuple[Any, ...]) -> Recorded:
    number, epoch, rule, kind, policy, schema, table, xid, lsn, committed_at, count_, keys, *rest = row
    violation = Violation(
        rule, kind, policy, TableName(schema, table), xid, parse_lsn(lsn), committed_at, count_, keys
    )  # fmt: skip
    return Recorded(side, number, epoch, violation, *rest)
