"""What generated revisions leave behind: the owner of the context decides about each of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from contexts import sqlfiles
from contexts.databases import Connection
from contexts.model import TableName
from contexts.scaffold import reader
from contexts.scaffold.reader import Needed
from contexts.scaffold.shape import Shape, Type

_SQL = sqlfiles.load("contexts.scaffold", "left_behind.sql")
#: Catalogs whose objects a shape holds, or that are parts of such an object.
_CARRIED = frozenset(
    ("pg_attrdef", "pg_class", "pg_collation", "pg_constraint", "pg_extension", "pg_namespace", "pg_statistic_ext")
)


@dataclass(frozen=True, slots=True)
class NotCarried:
    """One thing that belongs to a moved table, or points at it, and that no generated revision holds."""

    #: ``trigger``, ``view``, ``policy``, ``foreign key``, ...
    kind: str
    #: The moved table as SQL text; empty where several tables need the thing.
    table: str
    name: str
    #: Why, and what to do about it.
    reason: str

    def __str__(self) -> str:
        of = f" of {self.table}" if self.table else ""
        return f"{' '.join(filter(None, (self.kind, self.name)))}{of}: {self.reason}"


def not_carried(conn: Connection, tables: Iterable[TableName]) -> list[NotCarried]:
    """Everything about the tables and their partitions that :func:`~contexts.scaffold.new_context` cannot carry.

    Functions whose bodies are text are found only through triggers and expressions: no server knows what they name.
    """
    names = tuple(tables)
    oids = reader.table_oids(conn, names)
    shape = reader.read_shape(conn, names)
    found = [NotCarried(*row) for row in conn.execute(_SQL["not_carried"], {"tables": oids})]
    return [*found, *_needed(reader.needed(conn, oids), shape)]


def _needed(needs: Needed, shape: Shape) -> Iterator[NotCarried]:
    types = {item.name for item in shape.definitions if isinstance(item, Type)}
    for item, name in needs.names.items():
        kind, _ = item
        if item in needs.of_extension or kind in _CARRIED:
            continue
        if kind == "pg_proc":
            yield NotCarried("function", "", name, "is carried, but not what its body calls: read it")
        elif kind != "pg_type":
            yield NotCarried(kind.removeprefix("pg_").replace("_", " "), "", name, "write it in a first revision")
        elif name not in types and not any(target == "pg_type" for target, _ in needs.edges.get(item, ())):
            # (An array or multirange type leads to the type that it is made of.)
            yield NotCarried("type", "", name, "is no enum, domain, composite or range: write it in a first revision")
