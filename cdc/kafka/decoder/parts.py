"""Rows of one of several partitions, decoded where they are read, to be put in order by :mod:`.merging`.

Kafka keeps the order within a partition only. But each row says which transaction it is of and the how manieth event
there, so what is put together again is the transaction as it was, whatever partition its rows came through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cdc.events import Row
from cdc.kafka.decoder.envelope import Envelopes, Headers, Nothing, RowEvent, TruncateEvent, Undecodable
from cdc.kafka.decoder.rows import TableDecoder, of_a_snapshot, unknown
from cdc.kafka.settings import Encoding
from contexts.catalog import Table
from contexts.model import TableName

#: What :attr:`Sent.kind` can be beside ``c``, ``u`` and ``d``: the two halves of a changed key, and a TRUNCATE.
LEFT, CAME, TRUNCATED = "left", "came", "truncated"


class Sent(NamedTuple):
    """One row's change, decoded; its table is counted among all tables in the order of their names."""

    offset: int
    xid: int
    #: Its place among the events of its transaction, from 1.
    order: int
    lsn: int
    #: As in :class:`~cdc.kafka.decoder.envelope.Source`.
    last_commit: int | None
    time_us: int
    #: The run of the connector that sent it.
    run: bytes
    kind: str
    table: int
    new: Row | None
    old: Row | None
    size: int


class RowReader:
    """Records of one partition in, decoded rows out.

    :param tables: as for :class:`~cdc.kafka.decoder.transactions.Decoder`.
    """

    def __init__(self, tables: Mapping[TableName, Table], encoding: Encoding) -> None:
        self._tables = {
            name: (number, TableDecoder(tables[name], encoding)) for number, name in enumerate(sorted(tables))
        }
        self._envelopes = Envelopes()

    def read(self, value: bytes | None, headers: Headers, offset: int) -> Sent | None:
        """The row of a record; None where it says nothing.

        :raises StreamStopped: it cannot be read, or does not fit the tables.
        """
        event = self._envelopes.parse(value, headers)
        match event:
            case Nothing():
                return None
            case TruncateEvent():
                number, _ = self._table(event.source.table)
                return _sent(event, offset, TRUNCATED, number, None, None)
            case RowEvent():
                return self._row(event, offset)
            case _:
                raise Undecodable("a record that is no row is among the rows: the connector routes otherwise")

    def _row(self, event: RowEvent, offset: int) -> Sent:
        number, table = self._table(event.source.table)
        if event.key_came:
            return _sent(event, offset, CAME, number, table.arrived(event), None)
        match event.op:
            case "c":
                return _sent(event, offset, "c", number, table.insert(event).new, None)
            case "u":
                update = table.update(event)
                return _sent(event, offset, "u", number, update.new, update.old)
            case "d":
                return _sent(event, offset, LEFT if event.key_left else "d", number, None, table.delete(event).old)
            case _:
                raise of_a_snapshot(event.source.table)

    def _table(self, name: TableName) -> tuple[int, TableDecoder]:
        if (found := self._tables.get(name)) is None:
            raise unknown(name)
        return found


def _sent(
    event: RowEvent | TruncateEvent, offset: int, kind: str, table: int, new: Row | None, old: Row | None
) -> Sent:
    place, source = event.place, event.source
    if place is None or source.lsn is None:
        raise Undecodable(f"table {source.table}: a row outside of any transaction")
    return Sent(
        offset, place.xid, place.total_order, source.lsn, source.last_commit, source.time_us, event.run, kind, table,
        new, old, event.size,
    )  # fmt: skip
