"""Reads the shape of some tables from a server's catalogs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from typing import Any

from contexts import catalog, sqlfiles
from contexts.databases import Connection
from contexts.model import TableName
from contexts.scaffold.shape import (
    Check,
    Collation,
    Column,
    Constraint,
    CutReference,
    Extension,
    Function,
    Index,
    Sequence,
    Shape,
    Statistics,
    Table,
    Type,
)

_SQL = sqlfiles.load("contexts.scaffold", "reader.sql")
#: An object of a catalog: the catalog's name and the object's OID.
Object = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Needed:
    """Every object that the tables stand on."""

    #: What each object directly needs.
    edges: Mapping[Object, frozenset[Object]]
    #: The server's name of each object, and whether it belongs to an extension.
    names: Mapping[Object, str]
    of_extension: frozenset[Object]

    def oids(self, class_name: str) -> list[int]:
        """The objects of one catalog that no extension brings."""
        return [oid for (name, oid) in self.names if name == class_name and (name, oid) not in self.of_extension]


def read_shape(conn: Connection, names: Iterable[TableName]) -> Shape:
    """The shape of those of the tables that exist, with their partitions, and of everything they need."""
    tables = table_oids(conn, names)
    return _shape(conn, tables, needed(conn, tables)) if tables else Shape()


def table_oids(conn: Connection, names: Iterable[TableName]) -> list[int]:
    """The tables and all their partitions, but for foreign ones."""
    return [table.oid for table in catalog.read_tables(conn, names).values() if table.kind in ("r", "p")]


def needed(conn: Connection, tables: list[int]) -> Needed:
    """What the tables stand on: types, functions, collations, sequences, extensions and schemas."""
    edges: dict[Object, set[Object]] = {}
    names: dict[Object, str] = {}
    members: set[Object] = set()
    for needer_class, needer, class_name, oid, of_extension, identity in _rows(conn, "needed", tables=tables):
        target = (class_name, oid)
        names[target] = identity
        edges.setdefault((needer_class, needer), set()).add(target)
        if of_extension:
            members.add(target)
    return Needed({key: frozenset(value) for key, value in edges.items()}, names, frozenset(members))


def cut_references(conn: Connection, tables: list[int]) -> list[CutReference]:
    """The foreign keys from the tables to tables that are not among them."""
    return [
        CutReference(name, TableName(schema, table), tuple(columns), TableName(to_schema, to_table), tuple(to_columns))
        for name, schema, table, to_schema, to_table, columns, to_columns in _rows(
            conn, "cut_references", tables=tables
        )
    ]


def _shape(conn: Connection, tables: list[int], needs: Needed) -> Shape:
    extensions = needs.oids("pg_extension")
    sequences = list(_rows(conn, "sequences", tables=tables, oids=needs.oids("pg_class")))
    return Shape(
        schemas=tuple(
            name for (name,) in _rows(conn, "schemas", oids=needs.oids("pg_namespace"), extensions=extensions)
        ),
        extensions=tuple(Extension(*row) for row in _rows(conn, "extensions", oids=extensions)),
        collations=tuple(Collation(*row) for row in _rows(conn, "collations", oids=needs.oids("pg_collation"))),
        definitions=_definitions(conn, needs),
        sequences=tuple(
            Sequence(name, options, owned_by, comment)
            for name, options, is_identity, _, _, owned_by, _, comment in sequences
            if not is_identity
        ),
        tables=_tables(conn, tables, sequences),
        constraints=tuple(Constraint(*row) for row in _rows(conn, "constraints", tables=tables)),
        indexes=tuple(Index(*row) for row in _rows(conn, "indexes", tables=tables)),
        statistics=tuple(Statistics(*row) for row in _rows(conn, "statistics", tables=tables)),
    )


def _definitions(conn: Connection, needs: Needed) -> tuple[Type | Function, ...]:
    """Types and functions, each after what it needs; by name where the order is free."""
    found: dict[Object, Type | Function] = {}
    for oid, name, is_domain, definition, comment, checks in _rows(conn, "types", oids=needs.oids("pg_type")):
        found["pg_type", oid] = Type(name, is_domain, definition, comment, tuple(Check(*check) for check in checks))
    for oid, name, definition in _rows(conn, "functions", oids=needs.oids("pg_proc")):
        found["pg_proc", oid] = Function(name, definition)
    order: TopologicalSorter[Object] = TopologicalSorter()
    for needer in needs.names:  # they come sorted by name
        order.add(needer)
    for needer in needs.names:
        # A domain's check needs the domain and is made after it, so it orders nothing.
        targets = [t for t in needs.names if t in needs.edges.get(needer, ()) and t[0] != "pg_constraint"]
        order.add(needer, *(targets if needer[0] != "pg_constraint" else ()))
    return tuple(found[item] for item in order.static_order() if item in found)


def _tables(conn: Connection, oids: list[int], sequences: list[tuple[Any, ...]]) -> tuple[Table, ...]:
    identity_options = {
        (owner, column): f"SEQUENCE NAME {name} {options}".strip() if not has_default_name else options
        for name, options, is_identity, owner, column, _, has_default_name, _ in sequences
        if is_identity
    }
    columns: dict[int, list[Column]] = {}
    for oid, number, *facts in _rows(conn, "columns", tables=oids):
        column = Column(*facts)
        own = replace(column, identity_options=identity_options.get((oid, number), "")) if column.identity else column
        columns.setdefault(oid, []).append(own)
    return tuple(
        replace(Table(TableName(schema, name), *facts), columns=tuple(columns.get(oid, ())))
        for oid, schema, name, *facts in _rows(conn, "tables", tables=oids)
    )


def _rows(conn: Connection, statement: str, **arguments: Any) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement with arrays as tuples, which shapes hold."""
    for row in conn.execute(_SQL[statement], arguments):
        yield tuple(tuple(value) if isinstance(value, list) else value for value in row)
