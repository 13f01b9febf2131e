"""Compares two shapes fact by fact, so that a difference names the object and the property."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from contexts.scaffold.shape import Shape, Table

Facts = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Difference:
    """A property that the sides do not agree on; ``property`` is ``exists`` where one side lacks the object."""

    object: str
    property: str
    shared: str
    service: str

    def __str__(self) -> str:
        return f"{self.object}: {self.property}: shared {self.shared!r}, service {self.service!r}"


def facts(shape: Shape) -> Facts:
    """Each object of the shape with its properties."""
    return {label: {key: str(value) for key, value in found.items()} for label, found in _objects(shape)}


def compare(shared: Shape, service: Shape) -> list[Difference]:
    """Everything in which the two shapes differ, sorted by object."""
    left, right = facts(shared), facts(service)
    return [
        difference for label in sorted(left.keys() | right.keys()) for difference in _compare_object(label, left, right)
    ]


def _compare_object(label: str, left: Facts, right: Facts) -> Iterator[Difference]:
    if label not in left or label not in right:
        yield Difference(label, "exists", *("yes" if label in side else "no" for side in (left, right)))
        return
    for key, value in left[label].items():
        if (other := right[label][key]) != value:
            yield Difference(label, key, value, other)


def _objects(shape: Shape) -> Iterator[tuple[str, dict[str, Any]]]:
    for group in ("extensions", "collations", "definitions", "sequences", "statistics"):
        for item in getattr(shape, group):
            yield f"{type(item).__name__.lower()} {item.name}", asdict(item)
    for table in shape.tables:
        yield from _table(table)
    for group in ("constraints", "indexes"):
        for item in getattr(shape, group):
            # What a partition has from its root is the root's fact; the names that servers give it may differ.
            if not item.inherited or item.is_identity:
                found = asdict(item)
                del found["inherited"], found["name"]
                yield f"{type(item).__name__.lower()} {item.name} on {item.table}", found


def _table(table: Table) -> Iterator[tuple[str, dict[str, Any]]]:
    found = asdict(table)
    del found["key"]
    found["columns"] = ", ".join(column.name for column in table.columns)
    yield f"table {table.name}", found
    for column in table.columns:
        yield f"column {table.name}.{column.name}", asdict(column)
