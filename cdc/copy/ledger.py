"""The copy's ledger on the closed side: what is done is written in the transaction that did it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import sql

from cdc.copy.model import Bound, Coverage, Moved, Part, Strategy
from cdc.state.position import Fenced
from contexts import sqlfiles
from contexts.databases import Connection
from contexts.model import TableName

_SQL = sqlfiles.load("cdc.copy", "ledger.sql")


def session_name(context: str) -> str:
    """The purpose of the sessions of the copy's processes, by which leftovers of a dead worker are found."""
    return f"copy {context}"


def read(closed: Connection, context: str) -> list[Part]:
    """All parts, in the order of table and number; empty where nothing was planned."""
    rows = closed.execute(_SQL["read_parts"], (context,)).fetchall()
    return [
        Part(
            TableName(schema, name), number, Strategy(strategy), _bound(lower), _bound(upper), size, cycle, done,
            rows_, bytes_,
        )
        for schema, name, number, strategy, lower, upper, size, cycle, done, rows_, bytes_ in rows
    ]  # fmt: skip


def add(closed: Connection, context: str, parts: Iterable[Part]) -> None:
    """Store planned parts."""
    with closed.cursor() as cursor:
        cursor.executemany(
            _SQL["add_part"],
            [
                (context, *p.table, p.number, p.strategy, _array(p.lower), _array(p.upper), p.estimated_bytes)
                for p in parts
            ],
        )


def coverage(closed: Connection, context: str) -> dict[TableName, Coverage]:
    """How far each planned table is copied. It stays so until the next cycle, once :func:`fence` has returned."""
    rows = closed.execute(_SQL["coverage"], (context,)).fetchall()
    return {TableName(row[0], row[1]): _coverage(Strategy(row[2]), *row[3:]) for row in rows}


def fence(closed: Connection, context: str) -> int:
    """Take all unfinished parts away from whatever process still copies them, and return the new cycle's number.

    Tables copied by ctid of which parts are missing begin again: no later snapshot sees the same positions.
    Call it before the stream is applied past the snapshot of an earlier cycle.
    """
    # Leftovers are ended first, so that nothing waits for a client that is gone without a word.
    closed.execute(_SQL["end_leftovers"], (f"carveout/{session_name(context)}",))
    with closed.transaction():
        (cycle,) = closed.execute(_SQL["next_cycle"], (context,)).fetchone() or (1,)
        arguments = {"context": context, "cycle": cycle}
        # This waits for a commit under way; what is then still unfinished can no longer be finished by it.
        closed.execute(_SQL["fence_parts"], arguments)
        closed.execute(_SQL["restart_tables"], arguments)
    return int(cycle)


def finish(closed: Connection, context: str, cycle: int, part: Part, moved: Moved) -> None:
    """Mark a part as done; call it in the transaction that wrote its rows.

    :raises Fenced: the part belongs to another cycle by now; the transaction must be rolled back.
    """
    arguments = {
        "context": context, "schema": part.table.schema, "name": part.table.name, "part": part.number,
        "cycle": cycle, "rows": moved.rows, "bytes": moved.bytes,
    }  # fmt: skip
    if closed.execute(_SQL["finish_part"], arguments).rowcount != 1:
        raise Fenced(
            f"context {context!r}: {part} belongs to another cycle than {cycle}",
            unchanged="the part's rows were rolled back",
            next_step="stop one of the two workers",
        )


def keyed_tables(closed: Connection, context: str) -> list[TableName]:
    """The tables with single rows to copy again."""
    return [TableName(*row) for row in closed.execute(_SQL["keyed_tables"], (context,))]


def take_keys(closed: Connection, context: str, table: TableName) -> list[Bound]:
    """Some keys of rows to copy again, in the order of the primary key's columns; empty at the end."""
    return [tuple(key) for (key,) in closed.execute(_SQL["take_keys"], (context, *table))]


def forget_keys(closed: Connection, context: str, table: TableName, keys: Sequence[Bound] | None = None) -> None:
    """Remove keys, or all of a table; call it in the transaction that wrote their rows."""
    if keys is None:
        closed.execute(_SQL["forget_keys"], (context, *table))
        return
    with closed.cursor() as cursor:
        cursor.executemany(_SQL["forget_key"], [(context, *table, list(key)) for key in keys])


def forget(closed: Connection, context: str, table: TableName | None = None) -> None:
    """Remove the parts of one table, or of all."""
    schema, name = table or (None, None)
    closed.execute(_SQL["forget_parts"], {"context": context, "schema": schema, "name": name})


def has_rows(closed: Connection, table: TableName) -> bool:
    """Whether the table holds any row."""
    query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {})").format(sql.Identifier(*table))
    return closed.execute(query).fetchone() == (True,)


def _coverage(strategy: Strategy, done: int, parts: int, keys_waiting: bool) -> Coverage:
    if done == parts:
        return Coverage.PARTIAL if keys_waiting else Coverage.FULL
    return Coverage.PARTIAL if done and strategy is Strategy.KEY else Coverage.NONE


def _bound(value: list[str] | None) -> Bound | None:
    return None if value is None else tuple(value)


def _array(bound: Bound | None) -> list[str] | None:
    return None if bound is None else list(bound)
