"""The contract itself: which tables, with which columns, in which form on the wire; without any format's words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cdc.kafka.decoder import refusals
from cdc.kafka.decoder.codecs import Codec, Unset, codec
from cdc.kafka.settings import Encoding
from contexts.catalog import Column, Table
from contexts.errors import RefusedError
from contexts.model import TableName


@dataclass(frozen=True, slots=True)
class Field:
    """One column as the events hold it."""

    name: str
    #: Connect's type: ``int32``, ``string``, ``array`` and so on.
    type: str
    #: Debezium's name of what the type means; empty where it means no more than itself.
    logical: str
    nullable: bool
    #: The column's type in PostgreSQL, and the same under all domains and without its modifiers.
    postgres: str
    base: str
    #: Connect's type and Debezium's name of an array's elements, which may always be NULL.
    items: tuple[str, str] = ("", "")
    #: The labels of an enum, in their order.
    labels: tuple[str, ...] = ()
    #: An update may hold the connector's placeholder instead of the value, where that did not change.
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class TableEvents:
    """The events of one table."""

    #: The columns of the primary key; empty: the records have no key.
    key: tuple[str, ...]
    fields: tuple[Field, ...]
    #: Whether ``before`` holds the whole old row; else only the key's columns mean something there.
    before_is_full: bool
    #: The events name the partition in ``source.table``.
    is_partitioned: bool

    def field(self, name: str) -> Field:
        """The field ``name``.

        :raises KeyError: no such field.
        """
        return {field.name: field for field in self.fields}[name]


@dataclass(frozen=True, slots=True)
class Contract:
    """What the events of a context look like; ``version`` rises whenever anything of it changes."""

    context: str
    tables: Mapping[TableName, TableEvents]
    version: int = 1


def describe(
    context: str, declared: Iterable[TableName], tables: Mapping[TableName, Table], encoding: Encoding,
    plain_arrays: Collection[str] = (), labels: Mapping[int, tuple[str, ...]] | None = None,
) -> Contract:  # fmt: skip
    """The contract of a context's tables under a connector's settings.

    :param declared: the tables of the context, without their partitions.
    :param tables: as the open side has them, partitions included.
    :param labels: of each enum, by its OID.
    :raises RefusedError: a column would not arrive whole; names each.
    """
    if found := refusals(tables.values(), encoding, plain_arrays):
        listed = "; ".join(f"{name}: {refusal.reason}" for name, refusal in found.items())
        raise RefusedError(
            f"no contract can be given: these would not arrive whole through Kafka: {listed}",
            unchanged="nothing was written",
            next_step=f"carveout check {context} says what helps",
        )
    # A partition may have another replica identity than its root: what the weakest says holds for all.
    full = all(table.replica_identity == "f" for table in tables.values())
    return Contract(
        context,
        {
            name: _events(tables[name], encoding, full or tables[name].replica_identity == "f", labels or {})
            for name in declared
            if name in tables
        },
    )


def _events(table: Table, encoding: Encoding, full: bool, labels: Mapping[int, tuple[str, ...]]) -> TableEvents:
    fields = tuple(_field(column, encoding, full, labels) for column in table.written_columns)
    return TableEvents(table.primary_key, fields, full, table.kind == "p")


def _field(column: Column, encoding: Encoding, full: bool, labels: Mapping[int, tuple[str, ...]]) -> Field:
    one = codec(column, encoding)
    assert isinstance(one, Codec)  # a refused one was named above
    kind, logical = one.schema
    nullable = not (column.not_null or column.domain_not_null)
    return Field(
        column.name, kind, logical, nullable, column.type_sql, column.base_type_sql, one.items,
        labels.get(column.base_type_oid, ()), one.toastable and not full and one.marker is not Unset.MARKER,
    )  # fmt: skip
