"""Decoder of the pgoutput messages that frame transactions, protocol versions 1 to 4. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from cdc.source.messages import (
    Begin,
    BeginPrepare,
    Commit,
    CommitPrepared,
    Frame,
    Origin,
    Prepare,
    RollbackPrepared,
    StreamAbort,
    StreamCommit,
    StreamPrepare,
    StreamStart,
    StreamStop,
)
from cdc.source.wire import EPOCH_US, MISFITS, Misfit, last_string, malformed, must_end

_BEGIN = struct.Struct(">QqI")
_COMMIT = struct.Struct(">BQQq")
_STREAM_START = struct.Struct(">I?")
_STREAM_COMMIT = struct.Struct(">IBQQq")
_STREAM_ABORT = struct.Struct(">II")
_STREAM_ABORT_PARALLEL = struct.Struct(">IIQq")
_BEGIN_PREPARE = struct.Struct(">QQqI")
_PREPARE = struct.Struct(">BQQqI")
_ROLLBACK_PREPARED = struct.Struct(">BQQqqI")


def _begin(data: bytes) -> Begin:
    lsn, time, xid = _BEGIN.unpack(data[1:])
    return Begin(lsn, time + EPOCH_US, xid)


def _commit(data: bytes) -> Commit:
    _flags, lsn, end, time = _COMMIT.unpack(data[1:])
    return Commit(lsn, end, time + EPOCH_US)


def _origin(data: bytes) -> Origin:
    return Origin(int.from_bytes(data[1:9], "big"), last_string(data, 9))


def _stream_stop(data: bytes) -> StreamStop:
    must_end(data, 1)
    return StreamStop()


def _stream_commit(data: bytes) -> StreamCommit:
    xid, _flags, lsn, end, time = _STREAM_COMMIT.unpack(data[1:])
    return StreamCommit(xid, lsn, end, time + EPOCH_US)


def _stream_abort(data: bytes) -> StreamAbort:
    if len(data) == 1 + _STREAM_ABORT.size:
        xid, subxid = _STREAM_ABORT.unpack(data[1:])
        return StreamAbort(xid, subxid, None, None)
    xid, subxid, lsn, time = _STREAM_ABORT_PARALLEL.unpack(data[1:])
    return StreamAbort(xid, subxid, lsn, time + EPOCH_US)


def _begin_prepare(data: bytes) -> BeginPrepare:
    lsn, end, time, xid = _BEGIN_PREPARE.unpack_from(data, 1)
    return BeginPrepare(lsn, end, time + EPOCH_US, xid, last_string(data, 1 + _BEGIN_PREPARE.size))


def _prepared(data: bytes) -> tuple[int, int, int, int, str]:
    """What Prepare, Stream Prepare and Commit Prepared have in common: all of it."""
    _flags, lsn, end, time, xid = _PREPARE.unpack_from(data, 1)
    return lsn, end, time + EPOCH_US, xid, last_string(data, 1 + _PREPARE.size)


def _rollback_prepared(data: bytes) -> RollbackPrepared:
    _flags, prepare_end, rollback_end, prepared, rolled_back, xid = _ROLLBACK_PREPARED.unpack_from(data, 1)
    gid = last_string(data, 1 + _ROLLBACK_PREPARED.size)
    return RollbackPrepared(prepare_end, rollback_end, prepared + EPOCH_US, rolled_back + EPOCH_US, xid, gid)


_FRAMES: Final[Mapping[int, Callable[[bytes], Frame]]] = {
    ord("B"): _begin,
    ord("C"): _commit,
    ord("O"): _origin,
    ord("S"): lambda data: StreamStart(*_STREAM_START.unpack(data[1:])),
    ord("E"): _stream_stop,
    ord("c"): _stream_commit,
    ord("A"): _stream_abort,
    ord("b"): _begin_prepare,
    ord("P"): lambda data: Prepare(*_prepared(data)),
    ord("p"): lambda data: StreamPrepare(*_prepared(data)),
    ord("K"): lambda data: CommitPrepared(*_prepared(data)),
    ord("r"): _rollback_prepared,
}


def decode_frame(payload: bytes) -> Frame:
    """Any message that is not a record of a transaction.

    :raises MalformedMessage: not of the form of the protocol.
    """
    try:
        if (decoder := _FRAMES.get(payload[0])) is None:
            raise Misfit("not known in protocol versions 1 to 4")
        return decoder(payload)
    except MISFITS as error:
        raise malformed(payload, error) from error
