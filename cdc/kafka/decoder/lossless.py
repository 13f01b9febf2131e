"""Which columns and tables arrive whole under a connector's settings: asked before a stream begins."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from cdc.kafka.decoder.codecs import EMBEDDED, Codec, Refusal, Unset, codec
from cdc.kafka.settings import Encoding
from contexts.catalog import Column, Table

_FULL = "ALTER TABLE ... REPLICA IDENTITY FULL"


def lossless(
    column: Column, encoding: Encoding, *, identity_full: bool = False, plain_array: bool = False
) -> Refusal | None:
    """None where every value of ``column`` arrives whole, else the reason and what would make it so.

    :param identity_full: the table has REPLICA IDENTITY FULL, so unchanged TOAST values arrive too.
    :param plain_array: it is known (best by a CHECK constraint) that the arrays in this column have one dimension
        and begin at 1: Debezium sends neither dimensions nor bounds.
    """
    if not column.is_written:
        return None
    found = codec(column, encoding)
    if isinstance(found, Refusal):
        return found
    if column.element_oid and not plain_array:
        return Refusal("an array's bounds and further dimensions are not sent", f"declare it plain, or {EMBEDDED}")
    if not encoding.nulls_kept and not column.not_null:
        return Refusal(
            "a NULL arrives as the column's default, where it has one",
            "value.converter.replace.null.with.default=false",
        )
    if encoding.snapshots and column.base_type_oid == 1082:
        return Refusal("snapshot reads lose the era of BC dates", "snapshot.mode=no_data")
    return None if identity_full else _unchanged(found, encoding)


def _unchanged(found: Codec, encoding: Encoding) -> Refusal | None:
    if not found.toastable:
        return None
    if found.marker is Unset.MARKER:
        return Refusal("an unchanged TOAST value arrives as NULL", _FULL)
    if not encoding.placeholder_is_private:
        reason = "a value equal to the public placeholder could not be told from an unchanged one"
        return Refusal(reason, f"unavailable.value.placeholder=<random text>, or {_FULL}")
    return None


def table_refusal(table: Table) -> Refusal | None:
    """Why the keys of a table's changes would not arrive whole, or None."""
    if table.replica_identity == "i" and set(table.identity_key) != set(table.primary_key):
        return Refusal(
            "REPLICA IDENTITY USING INDEX without the primary key: a changed key would leave the old row behind",
            "ALTER TABLE ... REPLICA IDENTITY DEFAULT (or FULL)",
        )
    folded = [column.name.lower() for column in table.columns]
    if doubled := sorted({name for name in folded if folded.count(name) > 1}):
        return Refusal(f"columns that differ only in case are mixed up: {', '.join(doubled)}", EMBEDDED)
    return None


def refusals(tables: Iterable[Table], encoding: Encoding, plain_arrays: Collection[str] = ()) -> dict[str, Refusal]:
    """All refusals, by ``schema.table`` or ``schema.table.column``.

    :param plain_arrays: the array columns (``schema.table.column``) that are known to be plain.
    """
    found: dict[str, Refusal] = {}
    for table in tables:
        if refusal := table_refusal(table):
            found[str(table.name)] = refusal
        full = table.replica_identity == "f"
        for column in table.columns:
            name = f"{table.name}.{column.name}"
            if refusal := lossless(column, encoding, identity_full=full, plain_array=name in plain_arrays):
                found[name] = refusal
    return found
