"""Whether a relation of the stream fits the closed side's table: DDL on the open side stops the stream here."""

from __future__ import annotations

from collections.abc import Iterator

from cdc.apply.target import FIRST_UNFIXED_OID, Target
from cdc.apply.types import Describe
from cdc.events import Relation, RelationColumn
from contexts.catalog import Column
from contexts.errors import SchemaMismatch
from contexts.model import TableName


def check(relation: Relation, target: Target, source_type: Describe | None, context: str) -> None:
    """Refuse a relation whose rows the table cannot hold as they are.

    :raises SchemaMismatch: names the table, every column that does not fit, and the revision to write.
    """
    if problems := list(_problems(relation, target, source_type)):
        raise mismatch(relation.table, "; ".join(problems), context)


def mismatch(table: TableName, problem: str, context: str) -> SchemaMismatch:
    """The error for a table that does not fit the stream."""
    return SchemaMismatch(
        f"context {context!r}: table {table}: {problem}",
        unchanged="the open batch was rolled back; what the stream holds waits in its slot",
        next_step=f"write a revision of the service's schema for {table}, then carveout schema upgrade {context}",
    )


def _problems(relation: Relation, target: Target, source_type: Describe | None) -> Iterator[str]:
    there = {column.name: column for column in target.table.columns}
    for column in relation.columns:
        if column.name not in there:
            yield f"column {column.name!r} is missing on the closed side"
        elif not _same_type(column, there[column.name], target, source_type):
            yield _type_problem(column, there[column.name], target, source_type)
    carried = {column.name for column in relation.columns}
    for name, own in there.items():
        if name not in carried and own.not_null and name not in target.self_filling:
            yield f"column {name!r} is NOT NULL without a default, and the open side does not have it"
    if not any(target.is_stored(name) for name in carried & there.keys()):
        yield "it has no column that is stored"


def _same_type(column: RelationColumn, own: Column, target: Target, source_type: Describe | None) -> bool:
    ours = target.types.get(own.name)
    if column.type_oid < FIRST_UNFIXED_OID or ours is None:
        return (column.type_oid, column.typmod) == (own.type_oid, own.typmod)
    theirs = source_type(column.type_oid, column.typmod) if source_type else None
    # A type that was dropped since: these are changes from before that, and the server judges their values.
    return theirs is None or theirs == ours


def _type_problem(column: RelationColumn, own: Column, target: Target, source_type: Describe | None) -> str:
    theirs = source_type(column.type_oid, column.typmod) if source_type else None
    ours = target.types.get(own.name, own.type_sql)
    shown = theirs or f"type {column.type_oid}"
    return f"column {column.name!r} is {shown} on the open side and {ours} on the closed side"
