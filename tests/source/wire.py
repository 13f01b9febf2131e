"""Builds pgoutput messages byte by byte, as the manual lays them out."""

from __future__ import annotations

import struct
from collections.abc import Sequence

PG_EPOCH_US = 946_684_800_000_000
Cell = bytes | str | None  # text, "u" for unchanged, NULL


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def xid_of(xid: int | None) -> bytes:
    return b"" if xid is None else struct.pack(">I", xid)


def row(cells: Sequence[Cell]) -> bytes:
    packed = struct.pack(">H", len(cells))
    for cell in cells:
        if cell is None:
            packed += b"n"
        elif isinstance(cell, str):
            packed += cell.encode()
        else:
            packed += b"t" + struct.pack(">i", len(cell)) + cell
    return packed


def relation(
    oid: int = 16400, table: str = "t", columns: Sequence[tuple[str, int, int, bool]] = (("id", 23, -1, True),),
    *, schema: str = "public", identity: str = "d", xid: int | None = None,
) -> bytes:  # fmt: skip
    packed = b"R" + xid_of(xid) + struct.pack(">I", oid) + text(schema) + text(table) + identity.encode()
    packed += struct.pack(">H", len(columns))
    for name, type_oid, typmod, key in columns:
        packed += bytes([key]) + text(name) + struct.pack(">Ii", type_oid, typmod)
    return packed


def insert(cells: Sequence[Cell], *, oid: int = 16400, xid: int | None = None) -> bytes:
    return b"I" + xid_of(xid) + struct.pack(">I", oid) + b"N" + row(cells)


def update(
    new: Sequence[Cell], old: Sequence[Cell] | None = None, kind: str = "K", *, oid: int = 16400,
    xid: int | None = None,
) -> bytes:  # fmt: skip
    before = b"" if old is None else kind.encode() + row(old)
    return b"U" + xid_of(xid) + struct.pack(">I", oid) + before + b"N" + row(new)


def delete(old: Sequence[Cell], kind: str = "K", *, oid: int = 16400, xid: int | None = None) -> bytes:
    return b"D" + xid_of(xid) + struct.pack(">I", oid) + kind.encode() + row(old)


def truncate(oids: Sequence[int], flags: int = 0, *, xid: int | None = None) -> bytes:
    return b"T" + xid_of(xid) + struct.pack(f">IB{len(oids)}I", len(oids), flags, *oids)


def message(prefix: str, content: bytes, *, flags: int = 1, lsn: int = 7, xid: int | None = None) -> bytes:
    return (
        b"M" + xid_of(xid) + struct.pack(">BQ", flags, lsn) + text(prefix) + struct.pack(">I", len(content)) + content
    )


def type_(oid: int, schema: str, name: str, *, xid: int | None = None) -> bytes:
    return b"Y" + xid_of(xid) + struct.pack(">I", oid) + text(schema) + text(name)


def begin(lsn: int = 100, time: int = 5, xid: int = 700) -> bytes:
    return b"B" + struct.pack(">QqI", lsn, time, xid)


def commit(lsn: int = 100, end: int = 150, time: int = 5) -> bytes:
    return b"C" + struct.pack(">BQQq", 0, lsn, end, time)


def stream_start(xid: int, first: bool) -> bytes:
    return b"S" + struct.pack(">IB", xid, first)


STREAM_STOP = b"E"


def stream_commit(xid: int, lsn: int, end: int, time: int = 5) -> bytes:
    return b"c" + struct.pack(">IBQQq", xid, 0, lsn, end, time)


def stream_abort(xid: int, subxid: int) -> bytes:
    return b"A" + struct.pack(">II", xid, subxid)
