"""A small pgoutput decoder (protocol version 1) over the SQL interface of logical decoding.

The applier's tests feed it what a real server says, without the source that runs in production, so that a
misunderstanding in that one cannot hide here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from cdc.events import (
    UNCHANGED,
    Change,
    Delete,
    Insert,
    Message,
    Relation,
    RelationColumn,
    Row,
    Transaction,
    Truncate,
    Update,
    Value,
)
from cdc.source.assembler import Assembler
from contexts.databases import Connection
from contexts.model import TableName

_EPOCH_US = 946_684_800_000_000


class Decoder:
    """Relations are remembered from one call to the next, as within one replication session."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._data = b""
        self._at = 0

    def decode(self, messages: Iterable[bytes]) -> list[Transaction]:
        found: list[Transaction] = []
        changes: list[Change] = []
        size = xid = 0
        for message in messages:
            self._data, self._at = message, 1
            match message[:1]:
                case b"B":
                    *_, xid = self._take("!QqI")
                    changes, size = [], 0
                case b"C":
                    _, commit, end, time = self._take("!BQQq")
                    found.append(Transaction(xid, commit, end, time + _EPOCH_US, changes, len(changes), size))
                case b"R":
                    self._relation()
                case b"Y" | b"O":
                    pass
                case _:
                    changes.append(self._change(message[:1]))
                    size += len(message)
        return found

    def _change(self, kind: bytes) -> Change:
        if kind == b"T":
            number, flags = self._take("!IB")
            relations = [self._relations[self._take("!I")[0]] for _ in range(number)]
            return Truncate(tuple(relations), bool(flags & 1), bool(flags & 2))
        if kind == b"M":
            _, lsn = self._take("!BQ")
            prefix = self._string()
            (length,) = self._take("!I")
            return Message(prefix, self._bytes(length), lsn)
        relation = self._relations[self._take("!I")[0]]
        images = self._images()
        if kind == b"I":
            return Insert(relation, images[b"N"])
        old = images.get(b"O") or images.get(b"K")
        if kind == b"D":
            assert old is not None
            return Delete(relation, old, b"O" in images)
        return Update(relation, images[b"N"], old, b"O" in images)

    def _relation(self) -> None:
        (oid,) = self._take("!I")
        name = TableName(self._string() or "pg_catalog", self._string())
        identity = self._bytes(1).decode()
        columns = []
        for _ in range(self._take("!H")[0]):
            (flags,) = self._take("!B")
            column = self._string()
            type_oid, typmod = self._take("!Ii")
            columns.append(RelationColumn(column, type_oid, typmod, bool(flags & 1)))
        self._relations[oid] = Relation(oid, name, identity, tuple(columns))

    def _images(self) -> dict[bytes, Row]:
        found: dict[bytes, Row] = {}
        while self._at < len(self._data):
            tag = self._bytes(1)
            found[tag] = [self._value() for _ in range(self._take("!H")[0])]
        return found

    def _value(self) -> Value:
        kind = self._bytes(1)
        if kind == b"n":
            return None
        if kind == b"u":
            return UNCHANGED
        assert kind == b"t"
        return self._bytes(self._take("!i")[0])

    def _take(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return values

    def _bytes(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]

    def _string(self) -> str:
        end = self._data.index(b"\0", self._at)
        text = self._data[self._at : end].decode()
        self._at = end + 1
        return text


class Slot:
    """A logical slot on a test's shared database and everything that it has not given out yet."""

    def __init__(self, conn: Connection, publication: str, name: str) -> None:
        self._conn, self._publication, self._name = conn, publication, name
        self._decoder = Decoder()
        self._assembler = Assembler(Path(), 1 << 30, 0)
        conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))

    def read(self) -> list[Transaction]:
        """The transactions that were committed since the last call, as values only."""
        return [replace(transaction, packed=None) for transaction in self.read_packed()]

    def read_packed(self) -> list[Transaction]:
        """The same, also in the packed form, as the source that runs in production makes it."""
        rows = self._conn.execute(
            "SELECT data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL,"
            " 'proto_version', '1', 'publication_names', %s, 'messages', 'true')",
            (self._name, self._publication),
        )
        messages = [row[0] for row in rows]
        assembled = [found for message in messages if (found := self._assembler.receive(message))]
        decoded = self._decoder.decode(messages)
        return [replace(one, packed=other.packed) for one, other in zip(decoded, assembled, strict=True)]
