"""Whether a relation of the stream fits the closed side's table: DDL on the open side stops the stream here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cdc.apply.target import Target
from cdc.events import Relation, RelationColumn
from contexts.catalog import Column
from contexts.errors import SchemaMismatch
from contexts.model import TableName

#: ``format_type`` of the open side's server, for a type OID and modifier of its catalog.
SourceType = Callable[[int, int], str]

# Below FirstGenbkiObjectId (access/transam.h) OIDs are assigned by hand and equal on every server and version.
_FIRST_UNFIXED_OID = 10_000


def check(relation: Relation, target: Target, source_type: SourceType | None, context: str) -> None:
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


def _problems(relation: Relation, target: Target, source_type: SourceType | None) -> Iterator[str]:
    there = {column.name: column for column in target.table.columns}
    for column in relation.columns:
        if column.name not in there:
            yield f"column {column.name!r} is missing on the closed side"
        elif not _same_type(column, there[column.name], source_type):
            yield _type_problem(column, there[column.name], source_type)
    carried = {column.name for column in relation.columns}
    for name, own in there.items():
        if name not in carried and own.not_null and name not in target.self_filling:
            yield f"column {name!r} is NOT NULL without a default, and the open side does not have it"
    if not any(target.is_stored(name) for name in carried & there.keys()):
        yield "it has no column that is stored"


def _same_type(column: RelationColumn, own: Column, source_type: SourceType | None) -> bool:
    if column.type_oid < _FIRST_UNFIXED_OID or own.type_oid < _FIRST_UNFIXED_OID:
        return (column.type_oid, column.typmod) == (own.type_oid, own.typmod)
    return source_type is None or source_type(column.type_oid, column.typmod) == own.type_sql


def _type_problem(column: RelationColumn, own: Column, source_type: SourceType | None) -> str:
    theirs = source_type(column.type_oid, column.typmod) if source_type else f"type {column.type_oid}"
    return f"column {column.name!r} is {theirs} on the open side and {own.type_sql} on the closed side"
