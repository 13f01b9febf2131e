"""Row images of one table: JSON in, the columns' PostgreSQL texts out, in the order of the relation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdc.events import ABSENT, UNCHANGED, Delete, Insert, Relation, RelationColumn, Row, Update, Value
from cdc.kafka.decoder.codecs import Codec, Refusal, Unset, codec, numeric_scale, schema_of
from cdc.kafka.decoder.envelope import RowEvent, Undecodable
from cdc.kafka.settings import Encoding
from contexts.catalog import Column, Table
from contexts.errors import SchemaMismatch
from contexts.model import TableName

_PARAMETER = "__debezium.source.column."
_MAX_PRECISION = 1000
_SERIAL = {"SMALLSERIAL": "INT2", "SERIAL": "INT4", "BIGSERIAL": "INT8"}


def unknown(table: TableName) -> SchemaMismatch:
    """The error for a row of a table that the context does not have."""
    return SchemaMismatch(
        f"table {table} is in the stream and not in the context (a new partition, or a renamed table?)",
        unchanged="the event was not read and the position was not moved",
        next_step="give the closed side this table, or take it out of the publication, and start again",
    )


def of_a_snapshot(table: TableName) -> Undecodable:
    """The error for a row that was read, not written."""
    return Undecodable(
        f"table {table}: a row of a snapshot, which belongs to no transaction",
        unchanged="the event was not read",
        next_step="set snapshot.mode=no_data and send no snapshot signals: the copy brings the rows",
    )


class TableDecoder:
    """Decodes the events of one table, whose description is fixed: another shape stops the stream.

    :param table: its columns and keys; ``replica_identity`` has to be the open side's.
    """

    def __init__(self, table: Table, encoding: Encoding) -> None:
        self.table = table
        self.full = table.replica_identity == "f"
        self._columns = table.written_columns
        self._codecs = [codec(column, encoding) for column in self._columns]
        self._generated = {column.name for column in table.columns if not column.is_written}
        self._names = frozenset(column.name for column in self._columns)
        keys = set(table.identity_key)
        self._keys = [column.name in keys for column in self._columns]
        columns = [RelationColumn(c.name, c.type_oid, c.typmod, c.name in keys) for c in self._columns]
        self.relation = Relation(table.oid, table.name, table.replica_identity, tuple(columns))
        refused = {c.name for c, one in zip(self._columns, self._codecs, strict=True) if isinstance(one, Refusal)}
        self._needed = self._names - refused
        #: Name and decoder of each column, and what stands for an unchanged value; None where a column was refused.
        self._plan = None if refused else [(c.name, one.decode) for c, one in self._readable()]
        self._markers = [(c.name, one.marker) for c, one in self._readable() if one.toastable]
        #: The fields that were compared last; the parser keeps one object per schema.
        self._checked: object = None

    def _readable(self) -> list[tuple[Column, Codec]]:
        pairs = zip(self._columns, self._codecs, strict=True)
        return [(column, one) for column, one in pairs if isinstance(one, Codec)]

    def insert(self, event: RowEvent) -> Insert:
        """A new row, from the stream or from a snapshot."""
        return Insert(self.relation, self._new(event, may_be_unchanged=False))

    def update(self, event: RowEvent) -> Update:
        """A changed row under its old key."""
        if not self.full:
            return Update(self.relation, self._new(event, may_be_unchanged=True), None, False)
        old = self._whole(event, event.before) if event.before is not None else None
        if old is None:
            raise SchemaMismatch(
                f"table {self.table.name}: REPLICA IDENTITY FULL, but an update came without the old row",
                unchanged="the event was not read",
                next_step="the replica identity must not change while a stream runs: start the stream anew",
            )
        return Update(self.relation, self._new(event, may_be_unchanged=False), old, True)

    def moved(self, left: RowEvent, came: RowEvent) -> Update:
        """A changed key: Debezium sends the old row's delete, then the new row."""
        old = self.delete(left)
        return Update(self.relation, self.arrived(came), old.old, old.old_is_full)

    def arrived(self, came: RowEvent) -> Row:
        """The new row of a changed key."""
        return self._new(came, may_be_unchanged=not self.full)

    def delete(self, event: RowEvent) -> Delete:
        """A deleted row; without FULL only the key's columns mean anything."""
        if event.before is None:
            raise self._undecodable("a delete without the old row", "")
        if self.full:
            return Delete(self.relation, self._whole(event, event.before), True)
        self._check(event, event.before)
        # Columns beside the key arrive as NULL, or as their default where they are NOT NULL: neither is meant.
        old: Row = [self._value(i, event.before, False) if is_key else None for i, is_key in enumerate(self._keys)]
        if not any(self._keys) or any(value is None for value, key in zip(old, self._keys, strict=True) if key):
            raise self._undecodable("a delete without its key", "")
        return Delete(self.relation, old, False)

    def _whole(self, event: RowEvent, image: Mapping[str, Any]) -> Row:
        self._check(event, image)
        return self._row(image, may_be_unchanged=False)

    def _new(self, event: RowEvent, *, may_be_unchanged: bool) -> Row:
        if event.after is None:
            raise self._undecodable("an event without the new row", "")
        self._check(event, event.after)
        return self._row(event.after, may_be_unchanged=may_be_unchanged)

    def _row(self, image: Mapping[str, Any], *, may_be_unchanged: bool) -> Row:
        if self._plan is not None and not (may_be_unchanged and self._holds_marker(image)):
            try:
                return [None if (value := image[name]) is None else decode(value) for name, decode in self._plan]
            except (ValueError, KeyError, TypeError, OverflowError):
                pass  # below it is told of which column
        return [self._value(i, image, may_be_unchanged) for i in range(len(self._columns))]

    def _holds_marker(self, image: Mapping[str, Any]) -> bool:
        for name, marker in self._markers:
            value = image[name]
            if value is None if marker is Unset.MARKER else value == marker:
                return True
        return False

    def _value(self, index: int, image: Mapping[str, Any], may_be_unchanged: bool) -> Value:
        column, one = self._columns[index], self._codecs[index]
        if isinstance(one, Refusal):
            return ABSENT  # who went past the refusal still cannot read a wrong value
        value = image[column.name]
        if may_be_unchanged and one.toastable:
            if one.marker is not Unset.MARKER:
                if value == one.marker:
                    return UNCHANGED
            elif value is None:
                raise self._undecodable("NULL, or unchanged: set REPLICA IDENTITY FULL", column.name)
        if value is None:
            return None
        try:
            return one.decode(value)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise self._undecodable(str(error), column.name) from error

    def _check(self, event: RowEvent, image: Mapping[str, Any]) -> None:
        """Stop where the event's columns or their types are not those of the description."""
        if event.fields is not None and event.fields is not self._checked:
            self._check_fields(event.fields)
            self._checked = event.fields
        if image.keys() == self._names:
            return
        if missing := self._needed - image.keys():
            raise self._mismatch(f"column {sorted(missing)[0]} is not in the event")
        if unknown := image.keys() - self._names - self._generated:
            raise self._mismatch(f"column {sorted(unknown)[0]} is new")

    def _check_fields(self, fields: tuple[Mapping[str, Any], ...]) -> None:
        by_name = {field["field"]: dict(field) for field in fields}
        for column, one in zip(self._columns, self._codecs, strict=True):
            if isinstance(one, Codec) and (field := by_name.get(column.name)):
                if schema_of(field) != one.schema:
                    raise self._mismatch(f"column {column.name} arrives as {schema_of(field)}, expected {one.schema}")
                if not _same_type(column, one, field.get("parameters") or {}):
                    raise self._mismatch(f"column {column.name} has another type than {column.type_sql}")

    def _mismatch(self, what: str) -> SchemaMismatch:
        return SchemaMismatch(
            f"table {self.table.name}: {what}",
            unchanged="the event was not read and the position was not moved",
            next_step="write the revision that gives the closed side this shape, then start the worker again",
        )

    def _undecodable(self, reason: str, column: str) -> Undecodable:
        where = f"table {self.table.name}" + (f", column {column}" if column else "")
        return Undecodable(f"{where}: {reason}", unchanged="the event was not read and the position was not moved")


def _same_type(column: Column, one: Codec, parameters: Mapping[str, str]) -> bool:
    """Whether the propagated source type (where the connector sends it) is the column's."""
    given = parameters.get(f"{_PARAMETER}type")
    if not one.type_name or given is None:
        return True
    if one.type_name != _SERIAL.get(given, given):
        return False
    length, scale = parameters.get(f"{_PARAMETER}length"), parameters.get(f"{_PARAMETER}scale")
    match one.type_name:
        case "NUMERIC" if column.typmod >= 0:
            sent_scale = ((int(scale or 0) & 0x7FF) ^ 1024) - 1024
            return (length, sent_scale) == (str((column.typmod - 4) >> 16), numeric_scale(column.typmod))
        case "NUMERIC":
            return not 1 <= int(length or 0) <= _MAX_PRECISION  # 0 from the catalog, 131089 from the stream
        case "VARCHAR" | "BPCHAR" if column.typmod >= 0:
            return length == str(column.typmod - 4)
        case "TIME" | "TIMESTAMP" | "TIMESTAMPTZ" if column.typmod >= 0:
            return scale == str(column.typmod)
    return True
