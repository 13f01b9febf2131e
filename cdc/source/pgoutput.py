"""Decoder of pgoutput, the output plugin of PostgreSQL's own logical replication, protocol versions 1 to 4.

Bytes in, events out: no I/O. The layouts are those of the manual's chapter "Logical Replication Message Formats".
Values stay the bytes that the server sent as text.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cdc.events import (
    UNCHANGED,
    Change,
    Delete,
    Insert,
    Message,
    Relation,
    RelationColumn,
    Row,
    Truncate,
    Update,
)
from cdc.source.messages import Type
from cdc.source.wire import MISFITS, Misfit, malformed, must_end, qualified_name, string, unpack_u32

INSERT, UPDATE, DELETE, TRUNCATE, MESSAGE, RELATION, TYPE = b"IUDTMRY"
#: Messages that yield a change.
CHANGES: Final = frozenset(b"IUDTM")
#: Messages that carry a leading xid inside a streamed block.
RECORDS: Final = CHANGES | frozenset(b"RY")

_NULL, UNCHANGED_KIND, _TEXT = b"nut"
NEW, _KEY, _OLD = b"NKO"
_OLD_ROWS = (_KEY, _OLD)
_U16 = struct.Struct(">H")
_COLUMN = struct.Struct(">Ii")
_TRUNCATE = struct.Struct(">IB")
_MESSAGE = struct.Struct(">BQ")


class Decoder:
    """Decodes the records of one transaction, in their order.

    :param relations: the relations known when the transaction begins, by OID; never changed in place.
    :param streamed: the records were sent inside streamed blocks, so each carries a xid.
    """

    __slots__ = ("_at", "relations")

    def __init__(self, relations: Mapping[int, Relation] = MappingProxyType({}), *, streamed: bool = False) -> None:
        self.relations = relations
        self._at = 5 if streamed else 1

    def decode(self, payload: bytes) -> Change | None:
        """The change of a record, or None where it describes a relation or a type.

        :raises MalformedMessage: not a record of the protocol, or one of a relation never described.
        """
        try:
            tag = payload[0]
            if tag == INSERT:
                return self._insert(payload)
            if tag == UPDATE:
                return self._update(payload)
            if tag == DELETE:
                return self._delete(payload)
            return self._other(tag, payload)
        except MISFITS as error:
            raise malformed(payload, error) from error

    def _insert(self, data: bytes) -> Insert:
        at = self._at
        relation = self._relation(unpack_u32(data, at)[0])
        if data[at + 4] != NEW:
            raise Misfit("no new row")
        row, end = _row(data, at + 5, relation)
        must_end(data, end)
        return Insert(relation, row)

    def _update(self, data: bytes) -> Update:
        at = self._at
        relation = self._relation(unpack_u32(data, at)[0])
        old, kind = None, data[at + 4]
        at += 5
        if kind in _OLD_ROWS:
            old, at = _row(data, at, relation)
            if data[at] != NEW:
                raise Misfit("no new row after the old one")
            at += 1
        elif kind != NEW:
            raise Misfit("neither an old nor a new row")
        new, end = _row(data, at, relation)
        must_end(data, end)
        return Update(relation, new, old, kind == _OLD)

    def _delete(self, data: bytes) -> Delete:
        at = self._at
        relation, kind = self._relation(unpack_u32(data, at)[0]), data[at + 4]
        if kind not in _OLD_ROWS:
            raise Misfit("no old row")
        old, end = _row(data, at + 5, relation)
        must_end(data, end)
        return Delete(relation, old, kind == _OLD)

    def _other(self, tag: int, data: bytes) -> Change | None:
        if tag == RELATION:
            relation = _decode_relation(data, self._at)
            # A new mapping, not a new entry: other transactions decode with the old one.
            self.relations = {**self.relations, relation.oid: relation}
            return None
        if tag == TYPE:
            _decode_type(data, self._at)
            return None
        if tag == TRUNCATE:
            return self._truncate(data)
        if tag == MESSAGE:
            return _decode_message(data, self._at)
        raise Misfit("not a record of a transaction")

    def _truncate(self, data: bytes) -> Truncate:
        count, flags = _TRUNCATE.unpack_from(data, self._at)
        oids = struct.unpack(f">{count}I", data[self._at + _TRUNCATE.size :])
        return Truncate(tuple(map(self._relation, oids)), bool(flags & 1), bool(flags & 2))

    def _relation(self, oid: int) -> Relation:
        try:
            return self.relations[oid]
        except KeyError:
            raise Misfit(f"relation {oid} was never described") from None


def decode_relation(payload: bytes, *, streamed: bool = False) -> Relation:
    """The relation that a Relation message describes.

    :raises MalformedMessage: not of that form.
    """
    try:
        return _decode_relation(payload, 5 if streamed else 1)
    except MISFITS as error:
        raise malformed(payload, error) from error


def is_transactional(payload: bytes) -> bool:
    """Whether a Message message outside of streamed blocks belongs to the transaction that it stands in."""
    return bool(payload[1:2] and payload[1] & 1)


def record_xid(payload: bytes) -> int:
    """The (sub)transaction that wrote a streamed record.

    :raises MalformedMessage: the record is too short to hold one.
    """
    try:
        xid: int = unpack_u32(payload, 1)[0]
    except struct.error as error:
        raise malformed(payload, error) from error
    return xid


def _row(data: bytes, at: int, relation: Relation) -> tuple[Row, int]:
    """The row at ``at`` and where it ends. The caller checks that end: a slice past the end is no error here."""
    if (count := _U16.unpack_from(data, at)[0]) != (expected := len(relation.columns)):
        raise Misfit(f"{count} values for {expected} columns of {relation.table}")
    return values(data, at + 2, count)


def values(data: bytes, at: int, count: int) -> tuple[Row, int]:
    """The first ``count`` values of a row, whose columns begin at ``at``, and where the next thing begins.

    :raises Misfit: a value is of another kind than was asked for; other :data:`MISFITS` where the message ends too
        early.
    """
    row: Row = []
    append = row.append
    for _ in range(count):
        kind = data[at]
        if kind == _TEXT:
            start = at + 5
            at = start + unpack_u32(data, at + 1)[0]
            append(data[start:at])
        elif kind == _NULL:
            append(None)
            at += 1
        elif kind == UNCHANGED_KIND:
            append(UNCHANGED)
            at += 1
        else:
            raise Misfit(f"a value of kind {chr(kind)!r}, text was asked for")
    return row, at


def _decode_relation(data: bytes, at: int) -> Relation:
    oid: int = unpack_u32(data, at)[0]
    table, at = qualified_name(data, at + 4)
    identity, count = chr(data[at]), _U16.unpack_from(data, at + 1)[0]
    at += 3
    columns = []
    for _ in range(count):
        flags = data[at]
        name, at = string(data, at + 1)
        type_oid, typmod = _COLUMN.unpack_from(data, at)
        at += _COLUMN.size
        columns.append(RelationColumn(name, type_oid, typmod, bool(flags & 1)))
    must_end(data, at)
    return Relation(oid, table, identity, tuple(columns))


def _decode_type(data: bytes, at: int) -> Type:
    name, end = qualified_name(data, at + 4)
    must_end(data, end)
    return Type(unpack_u32(data, at)[0], name)


def _decode_message(data: bytes, at: int) -> Message:
    _flags, lsn = _MESSAGE.unpack_from(data, at)
    prefix, at = string(data, at + _MESSAGE.size)
    start = at + 4
    end = start + unpack_u32(data, at)[0]
    must_end(data, end)
    return Message(prefix, data[start:end], lsn)
