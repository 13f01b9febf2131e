"""Whether a relation of the stream fits the closed side's table: DDL on the open side stops the stream here."""

from __future__ import annotations

from collections.abc import Iterator

from cdc.apply.target import FIRST_UNFIXED_OID, Target
from cdc.apply.types import SourceTypes
from cdc.events import Relation, RelationColumn
from contexts.catalog import Column
from contexts.errors import SchemaMismatch
from contexts.model import TableName


def check(
    relation: Relation, target: Target, source: SourceTypes | None, context: str, *, converts: bool = False
) -> list[str]:
    """Refuse a relation whose rows the table cannot hold as they are.

    :param converts: whether another type is no reason.
    :returns: the columns of another type, in words.
    :raises SchemaMismatch: names the table, every column that does not fit, and what to do.
    """
    retyped = list(_retyped(relation, target, source))
    types = [_type_problem(column, own, target, source) for column, own in retyped]
    problems = [*_problems(relation, target), *([] if converts else types)]
    if not problems:
        return types
    if retyped and all(_is_past(relation.table, own, target, source) for _, own in retyped):
        raise _past(relation.table, "; ".join(problems), context)
    raise mismatch(relation.table, "; ".join(problems), context)


def mismatch(table: TableName, problem: str, context: str, *, next_step: str = "") -> SchemaMismatch:
    """The error for a table that does not fit the stream."""
    revise = f"write a revision of the service's schema for {table}, then carveout schema upgrade {context}"
    return SchemaMismatch(
        f"context {context!r}: table {table}: {problem}",
        unchanged="the open batch was rolled back; what the stream holds waits in its slot",
        next_step=next_step or revise,
    )


def _past(table: TableName, problem: str, context: str) -> SchemaMismatch:
    """The error for rows from before a change of a type that both sides have gone through."""
    return mismatch(
        table,
        f"{problem}; by now it is the same on both sides, so these rows are from before that change",
        context,
        next_step=f"carveout worker {context} --convert {table}: reads these rows' text as the new type, as ALTER TABLE"
        f" does without USING; then carveout verify {context}, which finds what does not agree",
    )


def _problems(relation: Relation, target: Target) -> Iterator[str]:
    there = {column.name: column for column in target.table.columns}
    carried = {column.name for column in relation.columns}
    for column in relation.columns:
        if column.name not in there:
            yield f"column {column.name!r} is missing on the closed side"
    for name, own in there.items():
        if name not in carried and own.not_null and name not in target.self_filling:
            yield f"column {name!r} is NOT NULL without a default, and the open side does not have it"
    if not any(target.is_stored(name) for name in carried & there.keys()):
        yield "it has no column that is stored"


def _retyped(relation: Relation, target: Target, source: SourceTypes | None) -> Iterator[tuple[RelationColumn, Column]]:
    """The columns whose types differ."""
    there = {column.name: column for column in target.table.columns}
    for column in relation.columns:
        own = there.get(column.name)
        if own is not None and not _same_type(column, own, target, source):
            yield column, own


def _same_type(column: RelationColumn, own: Column, target: Target, source: SourceTypes | None) -> bool:
    ours = target.types.get(own.name)
    if column.type_oid < FIRST_UNFIXED_OID or ours is None:
        return (column.type_oid, column.typmod) == (own.type_oid, own.typmod)
    theirs = source.described(column.type_oid, column.typmod) if source else None
    # A type that was dropped since: these are changes from before that, and the server judges their values.
    return theirs is None or theirs == ours


def _is_past(table: TableName, own: Column, target: Target, source: SourceTypes | None) -> bool:
    """Whether the open side's column is by now what the closed side's is."""
    ours = target.types.get(own.name, own.type_sql)
    return source is not None and source.now(table, own.name) == ours


def _type_problem(column: RelationColumn, own: Column, target: Target, source: SourceTypes | None) -> str:
    theirs = source.described(column.type_oid, column.typmod) if source else None
    ours = target.types.get(own.name, own.type_sql)
    shown = theirs or f"type {column.type_oid}"
    return f"column {column.name!r} is {shown} on the open side and {ours} on the closed side"
