"""Writes a shape as SQL: what an empty table needs to take rows, and what is built once the rows are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from contexts.scaffold.shape import Column, Constraint, Function, Index, Sequence, Shape, Table, Type

_REPLICA_IDENTITY = {"f": "FULL", "n": "NOTHING"}
_IDENTITY = {"a": "ALWAYS", "d": "BY DEFAULT"}
_STORED = {"s": "STORED", "v": "VIRTUAL"}


def tables(shape: Shape) -> list[str]:
    """Everything that must be there before the first row: types, sequences, tables with their keys."""
    keys = {c.table: c for c in shape.constraints if c.kind == "p"}
    by_name = {table.name: table for table in shape.tables}
    return [
        *(f"CREATE SCHEMA IF NOT EXISTS {name}" for name in shape.schemas),
        *(f"CREATE EXTENSION IF NOT EXISTS {e.name} WITH SCHEMA {e.schema}" for e in shape.extensions),
        *(f"CREATE COLLATION {c.name} {c.definition}" for c in shape.collations),
        *_definitions(shape),
        *_checks(shape, validated=True),
        *(f"CREATE SEQUENCE {s.name} {s.options}".strip() for s in shape.sequences),
        *(s for table in shape.tables for s in _table(table, by_name.get(table.parent), keys.get(table.name))),
        *(s for sequence in shape.sequences for s in _owned(sequence)),
        *_identities(shape),
        *(s for key in keys.values() if not key.inherited for s in _about(key)),
    ]


def constraints(shape: Shape) -> list[str]:
    """Secondary indexes and all constraints but the primary keys; foreign keys last.

    The tables may be in use: all are locked first, in one statement, so that two lockers cannot wait for each other
    in the middle of the work.
    """
    first = [s for index in _own_indexes(shape) if not index.is_identity for s in _index(index)]
    later = [c for c in shape.constraints if c.kind != "p" and not c.inherited and not c.is_identity]
    built = [
        *first,
        *(s for c in sorted(later, key=lambda c: c.kind == "f") for s in _constraint(c)),
        *(s.definition for s in shape.statistics),
        *(f"COMMENT ON STATISTICS {s.name} IS {_literal(s.comment)}" for s in shape.statistics if s.comment),
        *_checks(shape, validated=False),
    ]
    locked = ", ".join(table.name for table in shape.tables if not table.parent)
    return [f"LOCK TABLE {locked} IN ACCESS EXCLUSIVE MODE", *built] if built else []


def _definitions(shape: Shape) -> Iterator[str]:
    if any(isinstance(item, Function) for item in shape.definitions):
        # A body may name tables that are made further down.
        yield "SET LOCAL check_function_bodies = off"
    for item in shape.definitions:
        match item:
            case Function():
                yield item.definition.rstrip()
            case Type():
                kind = "DOMAIN" if item.is_domain else "TYPE"
                yield f"CREATE {kind} {item.name} {item.definition}"
                if item.comment:
                    yield f"COMMENT ON {kind} {item.name} IS {_literal(item.comment)}"


def _checks(shape: Shape, *, validated: bool) -> Iterator[str]:
    for item in shape.definitions:
        if isinstance(item, Type):
            for check in item.checks:
                if check.validated is validated:
                    yield f"ALTER DOMAIN {item.name} ADD CONSTRAINT {check.name} {check.definition}"


def _table(table: Table, parent: Table | None, key: Constraint | None) -> Iterator[str]:
    tail = f" PARTITION BY {table.partition_by}" if table.partition_by else ""
    if options := ", ".join(map(_option, table.options)):
        tail += f" WITH ({options})"
    if parent and _follows(table, parent):
        yield f"CREATE TABLE {table.name} PARTITION OF {parent.name}\n    {table.bound}{tail}"
    else:
        lines = [_column(column) for column in table.columns]
        if key:
            lines.append(f"CONSTRAINT {key.name} {key.definition}")
        yield f"CREATE TABLE {table.name} (\n    " + ",\n    ".join(lines) + f"\n){tail}"
        if parent:
            yield f"ALTER TABLE ONLY {parent.name} ATTACH PARTITION {table.name}\n    {table.bound}"
    if table.replica_identity in _REPLICA_IDENTITY:
        yield f"ALTER TABLE ONLY {table.name} REPLICA IDENTITY {_REPLICA_IDENTITY[table.replica_identity]}"
    if table.comment:
        yield f"COMMENT ON TABLE {table.name} IS {_literal(table.comment)}"
    for column in table.columns:
        yield from _about_column(table, column)


def _follows(table: Table, parent: Table) -> bool:
    """Whether ``PARTITION OF`` gives this partition: its columns are its root's and no name of an index matters."""

    def plain(columns: Iterable[Column]) -> list[Column]:
        return [replace(c, identity="", identity_options="", statistics=None, options=(), comment="") for c in columns]

    return table.replica_identity != "i" and plain(table.columns) == plain(parent.columns)


def _column(column: Column) -> str:
    clauses = [column.name, column.type]
    if column.collation:
        clauses.append(f"COLLATE {column.collation}")
    if column.generated:
        clauses.append(f"GENERATED ALWAYS AS ({column.default}) {_STORED[column.generated]}")
    elif column.default:
        clauses.append(f"DEFAULT {column.default}")
    if column.identity:
        options = f" ({column.identity_options})" if column.identity_options else ""
        clauses.append(f"GENERATED {_IDENTITY[column.identity]} AS IDENTITY{options}")
    if column.not_null:
        clauses.append("NOT NULL")
    return " ".join(clauses)


def _about_column(table: Table, column: Column) -> Iterator[str]:
    alter = f"ALTER TABLE ONLY {table.name} ALTER COLUMN {column.name}"
    if column.storage:
        yield f"{alter} SET STORAGE {column.storage}"
    if column.compression:
        yield f"{alter} SET COMPRESSION {column.compression}"
    if column.statistics is not None:
        yield f"{alter} SET STATISTICS {column.statistics}"
    if column.options:
        yield f"{alter} SET ({', '.join(map(_option, column.options))})"
    if column.comment:
        yield f"COMMENT ON COLUMN {table.name}.{column.name} IS {_literal(column.comment)}"


def _owned(sequence: Sequence) -> Iterator[str]:
    if sequence.owned_by:
        yield f"ALTER SEQUENCE {sequence.name} OWNED BY {sequence.owned_by}"
    if sequence.comment:
        yield f"COMMENT ON SEQUENCE {sequence.name} IS {_literal(sequence.comment)}"


def _identities(shape: Shape) -> Iterator[str]:
    """The indexes that replica identities stand on, partitions before their roots, which adopt them."""
    depth = {table.name: number for number, table in enumerate(shape.tables)}
    for constraint in sorted(shape.constraints, key=lambda c: -depth[c.table]):
        if constraint.is_identity and constraint.kind != "p":
            yield from _constraint(constraint)
    for index in sorted(shape.indexes, key=lambda i: -depth[i.table]):
        if index.is_identity:
            yield from _index(index)
    for table in shape.tables:
        if table.replica_identity == "i":
            yield f"ALTER TABLE ONLY {table.name} REPLICA IDENTITY USING INDEX {table.identity_index}"


def _own_indexes(shape: Shape) -> Iterator[Index]:
    return (index for index in shape.indexes if not index.inherited or index.is_identity)


def _constraint(constraint: Constraint) -> Iterator[str]:
    yield f"ALTER TABLE {constraint.table} ADD CONSTRAINT {constraint.name}\n    {constraint.definition}"
    yield from _about(constraint)


def _about(constraint: Constraint) -> Iterator[str]:
    if constraint.options:
        yield f"ALTER INDEX {constraint.index} SET ({', '.join(map(_option, constraint.options))})"
    if constraint.comment:
        yield f"COMMENT ON CONSTRAINT {constraint.name} ON {constraint.table} IS {_literal(constraint.comment)}"


def _index(index: Index) -> Iterator[str]:
    yield index.definition
    if index.comment:
        yield f"COMMENT ON INDEX {index.name} IS {_literal(index.comment)}"


def _option(option: str) -> str:
    """``fillfactor=70`` as ``fillfactor='70'``: any value may be quoted, some must be."""
    name, _, value = option.partition("=")
    return f"{name}={_literal(value)}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
