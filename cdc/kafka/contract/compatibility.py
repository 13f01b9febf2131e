"""What a change of a contract means for consumers.

Backward: who knows the new contract can read events written under the old one (a topic read again from its
beginning). Forward: who knows the old contract can read events written under the new one (a consumer that was not
changed when the tables were). Consumers pass over columns that they do not know, and take one that may be NULL and is
not there for NULL: Avro does both by itself.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from cdc.kafka.contract.model import Contract, Field, TableEvents


class Break(enum.StrEnum):
    """For whom something breaks."""

    BACKWARD = "backward"
    FORWARD = "forward"


_BOTH = frozenset(Break)
_NONE: frozenset[Break] = frozenset()
_BACKWARD, _FORWARD = frozenset({Break.BACKWARD}), frozenset({Break.FORWARD})
#: What a reader of a type takes as well.
_WIDENED = {
    "int32": {"int16"},
    "int64": {"int16", "int32"},
    "float": set[str](),
    "double": {"float", "int16", "int32"},
}
#: Types that any text is a value of.
_ANY_TEXT = {"text", "character varying", "character"}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two contracts."""

    #: ``schema.table`` or ``schema.table.column``.
    where: str
    what: str
    breaks: frozenset[Break] = _NONE


def compare(old: Contract, new: Contract) -> list[Change]:
    """Every difference, with what it breaks; empty where the contracts are the same."""
    return list(_tables(old, new))


def _tables(old: Contract, new: Contract) -> Iterator[Change]:
    for name in sorted(old.tables.keys() | new.tables.keys()):
        if name not in old.tables:
            yield Change(str(name), "table added")
        elif name not in new.tables:
            yield Change(str(name), "table removed: its events end", _FORWARD)
        else:
            yield from _table(str(name), old.tables[name], new.tables[name])


def _table(name: str, old: TableEvents, new: TableEvents) -> Iterator[Change]:
    if old.key != new.key:
        yield Change(name, f"key ({', '.join(old.key)}) is now ({', '.join(new.key)})", _BOTH)
    if old.before_is_full and not new.before_is_full:
        yield Change(name, "the old row (before) holds the key only", _FORWARD)
    if new.before_is_full and not old.before_is_full:
        yield Change(name, "the old row (before) is whole", _BACKWARD)
    if old.is_partitioned != new.is_partitioned:
        yield Change(name, "the name of the table in source.table changes with its partitioning", _BOTH)
    before, after = ({field.name: field for field in table.fields} for table in (old, new))
    for column in [*before, *(column for column in after if column not in before)]:
        where = f"{name}.{column}"
        if column not in after:
            yield _removed(where, before[column])
        elif column not in before:
            yield _added(where, after[column])
        else:
            yield from _field(where, before[column], after[column])


def _added(where: str, field: Field) -> Change:
    if field.nullable:
        return Change(where, f"column added ({field.postgres})")
    return Change(where, f"column added ({field.postgres}) that is never NULL: older events lack it", _BACKWARD)


def _removed(where: str, field: Field) -> Change:
    if field.nullable:
        return Change(where, "column removed")
    return Change(where, "column removed that was never NULL: older consumers need it", _FORWARD)


def _field(where: str, old: Field, new: Field) -> Iterator[Change]:
    if (old.type, old.logical, old.items, old.base) != (new.type, new.logical, new.items, new.base):
        yield Change(where, f"type {old.postgres} is now {new.postgres}", _retyped(old, new))
    elif old.postgres != new.postgres:
        yield Change(where, f"type {old.postgres} is now {new.postgres}, with the same form")
    if new.nullable and not old.nullable:
        yield Change(where, "may be NULL now", _FORWARD)
    if old.nullable and not new.nullable:
        yield Change(where, "is never NULL any more: older events may hold one", _BACKWARD)
    if new.unchanged and not old.unchanged:
        yield Change(where, "an update may hold the placeholder of an unchanged value", _FORWARD)
    if old.unchanged and not new.unchanged:
        yield Change(where, "an update always holds its value: older events may hold the placeholder", _BACKWARD)
    if added := [label for label in new.labels if label not in old.labels]:
        yield Change(where, f"labels added: {', '.join(added)}", _FORWARD)
    if removed := [label for label in old.labels if label not in new.labels]:
        yield Change(where, f"labels removed: {', '.join(removed)}", _BACKWARD)


def _retyped(old: Field, new: Field) -> frozenset[Break]:
    """What a column's new type breaks."""
    return frozenset(
        {*(() if _reads(new, old) else (Break.BACKWARD,)), *(() if _reads(old, new) else (Break.FORWARD,))}
    )


def _reads(reader: Field, written: Field) -> bool:
    if reader.type == written.type == "string" and reader.base in _ANY_TEXT:
        return True
    if reader.logical or written.logical or reader.items != written.items:
        return False
    return written.type in _WIDENED.get(reader.type, ())
