"""The shape of tables as a server's own deparsers write it: what a schema is generated from and compared by.

Every name and expression is SQL text, quoted and schema-qualified by the server that it was read from, so two
servers' shapes compare as text. ``statements.py`` turns a shape into SQL, ``facts.py`` into comparable facts.
"""

from __future__ import annotations

from dataclasses import dataclass

from contexts.model import TableName


@dataclass(frozen=True, slots=True)
class Extension:
    """An installed extension that a table needs; versions differ between servers and are left to them."""

    name: str
    schema: str


@dataclass(frozen=True, slots=True)
class Collation:
    """A collation made by ``CREATE COLLATION``."""

    name: str
    #: ``(provider = icu, locale = ...)``.
    definition: str


@dataclass(frozen=True, slots=True)
class Check:
    """A check constraint of a domain."""

    name: str
    definition: str
    validated: bool


@dataclass(frozen=True, slots=True)
class Type:
    """An enum, composite or range type, or a domain."""

    name: str
    is_domain: bool
    #: What follows the name: ``AS ENUM (...)``, ``AS text COLLATE ...``.
    definition: str
    comment: str
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Function:
    """A function that a default, check, index or generated column calls."""

    name: str
    #: ``pg_get_functiondef``.
    definition: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence that is no identity column's; ``options`` names what is not the default."""

    name: str
    options: str
    #: ``schema.table.column``, empty for a sequence that stands alone.
    owned_by: str
    comment: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column. An empty text means: not there, or the default."""

    name: str
    type: str
    collation: str
    not_null: bool
    default: str
    #: ``pg_attribute.attgenerated``: the default is the expression where it is set.
    generated: str
    #: ``pg_attribute.attidentity``; empty in partitions, where versions differ on it.
    identity: str
    #: Name and options of the identity's sequence where they are not the default.
    identity_options: str
    storage: str
    compression: str
    statistics: int | None
    options: tuple[str, ...]
    comment: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table, a partitioned root or a partition."""

    key: TableName
    name: str
    #: The partitioned table that this is a partition of, if that moves too.
    parent: str
    #: ``FOR VALUES ...`` or ``DEFAULT``.
    bound: str
    #: ``RANGE (created_at)``; empty for a table that is not partitioned.
    partition_by: str
    #: ``pg_class.relreplident``, and the index where it is ``i``.
    replica_identity: str
    identity_index: str
    options: tuple[str, ...]
    comment: str
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class Constraint:
    """A primary key, unique, exclusion, check or foreign key constraint between moved tables."""

    table: str
    name: str
    #: ``pg_constraint.contype``.
    kind: str
    definition: str
    #: The index behind it, empty for checks and foreign keys, and that index's storage options.
    index: str
    options: tuple[str, ...]
    comment: str
    #: A partition has it from its root, which makes it.
    inherited: bool
    #: The table's replica identity stands on it.
    is_identity: bool


@dataclass(frozen=True, slots=True)
class Index:
    """An index that no constraint stands on."""

    table: str
    name: str
    definition: str
    comment: str
    inherited: bool
    is_identity: bool


@dataclass(frozen=True, slots=True)
class Statistics:
    """Extended statistics."""

    name: str
    definition: str
    comment: str


@dataclass(frozen=True, slots=True)
class CutReference:
    """A foreign key from a moved table to one that stays, in the terms of ``[[references]]``."""

    name: str
    table: TableName
    columns: tuple[str, ...]
    references: TableName
    referenced_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """Some tables and everything that they need, in an order in which it can be created."""

    schemas: tuple[str, ...] = ()
    extensions: tuple[Extension, ...] = ()
    collations: tuple[Collation, ...] = ()
    #: Types and functions may need each other, so they share one order.
    definitions: tuple[Type | Function, ...] = ()
    sequences: tuple[Sequence, ...] = ()
    #: A root comes before its partitions.
    tables: tuple[Table, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    indexes: tuple[Index, ...] = ()
    statistics: tuple[Statistics, ...] = ()
