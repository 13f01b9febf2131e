"""Decides how each table is copied, and stores the parts in the ledger."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass

from cdc.copy import failures, ledger, shape, split
from cdc.copy.model import Part, Strategy
from contexts import sqlfiles
from contexts.catalog import Table, leaves, read_tables
from contexts.databases import Connection
from contexts.errors import ConfigError, RefusedError
from contexts.killpoints import kill_point
from contexts.model import Context, TableName

#: What one table is assumed to copy at, at least, when it must fit into a snapshot's age.
ASSUMED_BYTES_PER_S = 20_000_000
_SQL = sqlfiles.load("cdc.copy", "plan.sql")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Sized:
    table: Table
    pages: int
    copy_by: str


def plan(open_: Connection, closed: Connection, context: Context) -> list[Part]:
    """The parts of the copy: those stored, and new ones for tables that have none.

    Call it before every cycle: a partition that appeared since is added then. Nothing is copied here.

    :raises ConfigError: a table does not exist on the open side, or ``copy_by = "key"`` is impossible for it.
    :raises SchemaMismatch: a table does not fit its counterpart on the closed side.
    :raises RefusedError: nothing was planned so far, and a table on the closed side holds rows.
    """
    with failures.naming("planning the copy", f"context {context.name!r}"):
        _add_missing(open_, closed, context)
        kill_point("copy.planned")
        return ledger.read(closed, context.name)


def _add_missing(open_: Connection, closed: Connection, context: Context) -> None:
    known = ledger.read(closed, context.name)
    planned = {part.table for part in known}
    sources = _sources(open_, context)
    _forget_gone(open_, closed, context.name, planned - sources.keys())
    new = [table for table in leaves(sources.values()) if table.name not in planned]
    if not new:
        return
    targets = read_tables(closed, [table.name for table in new])
    for table in new:
        shape.match(table, targets.get(table.name))
    if not known:
        _require_empty(closed, [table.name for table in new])
    by_key = _cut_by_key(open_, closed, new, targets)
    with closed.transaction():
        ledger.add(closed, context.name, _parts(open_, context, new, by_key))


def _sources(open_: Connection, context: Context) -> dict[TableName, Table]:
    found = read_tables(open_, context.table_names)
    if missing := [str(name) for name in context.table_names if name not in found]:
        raise ConfigError(
            f"context {context.name!r}: not on the open side: {', '.join(missing)}",
            unchanged="nothing was planned",
            next_step="correct tables in context.toml",
        )
    return found


def _forget_gone(open_: Connection, closed: Connection, context: str, missing: set[TableName]) -> None:
    """Forget planned partitions that were dropped on both sides meanwhile."""
    for name in missing - read_tables(open_, missing).keys() - read_tables(closed, missing).keys():
        ledger.forget(closed, context, name)


def _require_empty(closed: Connection, names: Iterable[TableName]) -> None:
    for name in names:
        if ledger.has_rows(closed, name):
            raise RefusedError(
                f"{name} on the closed side holds rows that the copy did not write",
                unchanged="nothing was planned and no row was touched",
                next_step=f"empty {name} on the closed side if its rows are not needed, then run again",
            )


def _parts(open_: Connection, context: Context, tables: list[Table], by_key: set[TableName]) -> list[Part]:
    options = context.options
    size = split.part_bytes(sum(table.bytes for table in tables), options.copy_workers, options.copy_part_mb << 20)
    parts: list[Part] = []
    for sized in _sizes(open_, context, tables):
        table = sized.table
        strategy = _strategy(sized, context, table.name in by_key)
        count = max(1, math.ceil(table.bytes / size))
        if strategy is Strategy.KEY:
            bounds = split.key_bounds(open_, table, sized.pages, count)
        else:
            bounds = split.ctid_bounds(sized.pages, count)
        share = table.bytes // (len(bounds) + 1)
        parts += [
            Part(table.name, number, strategy, lower, upper, share)
            for number, (lower, upper) in enumerate(split.ranges(bounds))
        ]
    return parts


def _cut_by_key(
    open_: Connection, closed: Connection, tables: list[Table], targets: dict[TableName, Table]
) -> set[TableName]:
    """The tables that may be copied by ranges of their primary key."""
    immediate = _immediate(open_, tables) & _immediate(closed, targets.values())
    return {
        table.name
        for table in tables
        if table.name in immediate
        and split.sorts_alike(table, targets[table.name])
        # The stream must name its rows by this key, or a single row could not be copied again by it.
        and set(table.primary_key) <= set(table.identity_key)
    }


def _immediate(conn: Connection, tables: Iterable[Table]) -> set[TableName]:
    """The tables whose primary key is not deferrable: a deferrable one may hold two rows of one key for a while."""
    names = {table.oid: table.name for table in tables}
    return {names[oid] for (oid,) in conn.execute(_SQL["immediate_keys"], (list(names),))}


def _sizes(open_: Connection, context: Context, tables: list[Table]) -> list[_Sized]:
    """The tables with their pages, which statistics cannot get wrong, and what ``context.toml`` says of them."""
    wishes = {table.name: table.copy_by for table in context.tables}
    rows = open_.execute(_SQL["sizes"], ([table.oid for table in tables],)).fetchall()
    facts = {oid: (pages, zip(schemas, names, strict=True)) for oid, pages, schemas, names in rows}
    sized = []
    for table in tables:
        pages, ancestors = facts[table.oid]
        line = [table.name, *(TableName(*pair) for pair in ancestors)]
        sized.append(_Sized(table, pages, next(wishes[name] for name in line if name in wishes)))
    return sized


def _strategy(sized: _Sized, context: Context, by_key: bool) -> Strategy:
    if sized.copy_by == "key" and not by_key:
        raise ConfigError(
            f'context {context.name!r}: {sized.table.name}: copy_by = "key" needs a primary key that is the same '
            "on both sides, not deferrable, part of the replica identity, and sorts the same everywhere "
            '(integers, uuid, dates, numeric, bytea, text with COLLATE "C")',
            unchanged="nothing was planned",
            next_step='write copy_by = "ctid" or leave it out',
        )
    if sized.copy_by != "auto":
        return Strategy(sized.copy_by)
    if sized.table.bytes <= ASSUMED_BYTES_PER_S * context.options.max_snapshot_age_s / 2:
        return Strategy.CTID
    if by_key:
        return Strategy.KEY
    _log.warning(
        "%s has %d MB and no primary key that sorts alike on both sides: it is copied under one snapshot, "
        "which may become older than max_snapshot_age_s",
        sized.table.name, sized.table.bytes >> 20,
    )  # fmt: skip
    return Strategy.CTID
