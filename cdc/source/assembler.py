"""Messages in, committed transactions out, in commit order. No sockets, no clocks.

Memory is bounded for all open transactions together: past the bound, the largest moves to a spool file. A large one
that is sent at its commit needs none: it is handed out before it is whole (see :mod:`cdc.source.arriving`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, assert_never

from cdc.events import Idle, Relation, Transaction
from cdc.lsn import format_lsn
from cdc.source.arriving import Arriving
from cdc.source.buffer import Buffer, StreamedBuffer
from cdc.source.frames import decode_frame
from cdc.source.messages import (
    Begin,
    BeginPrepare,
    Commit,
    CommitPrepared,
    Origin,
    Prepare,
    RollbackPrepared,
    StreamAbort,
    StreamCommit,
    StreamPrepare,
    StreamStart,
    StreamStop,
)
from cdc.source.pgoutput import MESSAGE, RECORDS, RELATION, decode_relation, is_transactional
from cdc.source.wire import message_name
from contexts.errors import StreamStopped
from contexts.killpoints import kill_point

logger = logging.getLogger(__name__)
#: What part of its memory a transaction that is sent at its commit may fill before it is handed out.
_ARRIVES_AT: Final = 4
_NOT_APPLIED: Final = "nothing of the transaction was applied, and the slot was not acknowledged"


class OutOfOrder(StreamStopped):
    """The server sent something that the protocol does not allow at this point."""


class Assembler:
    """Collects the records of open transactions and completes them at their commit.

    :param memory_bytes: how much all open transactions may hold in memory.
    :param start_lsn: where the stream was started; nothing that committed before may come.
    """

    def __init__(self, spool_folder: Path, memory_bytes: int, start_lsn: int) -> None:
        self._folder = spool_folder
        self._memory_bytes = memory_bytes
        self._memory = 0
        self._floor = start_lsn
        #: The transaction whose block is being received.
        self._open: Buffer | None = None
        #: How it began, where it is sent at its commit; and what was handed out of it before it is whole.
        self._begun: Begin | None = None
        self._early: Transaction | None = None
        self._arriving: Arriving | None = None
        #: Called where more should not be received yet, with what waits for room (False: none within so many seconds).
        self.pace: Callable[[Callable[[float], bool]], None] = lambda _: None
        self._streamed: dict[int, StreamedBuffer] = {}
        self._relations: Mapping[int, Relation] = {}
        self._described_at: dict[int, int] = {}
        self._descriptions = 0

    @property
    def memory(self) -> int:
        """Bytes held in memory for open transactions."""
        return self._memory

    @property
    def floor(self) -> int:
        """Everything that committed before this has been handed out."""
        return self._floor

    def receive(self, payload: bytes) -> Transaction | None:
        """Take one message; returns the transaction that it completes, or that is too large to be waited for.

        :raises MalformedMessage: it cannot be decoded.
        :raises OutOfOrder: it cannot stand here.
        :raises SpoolFull: a large transaction cannot be spooled.
        """
        tag = payload[0] if payload else 0
        if tag not in RECORDS:
            return self._frame(payload)
        buffer = self._open
        if buffer is None:
            self._outside(tag, payload)
            return None
        if tag == RELATION:
            self._describe(buffer, payload)
        self._memory += buffer.add(tag, payload)
        if buffer.memory * _ARRIVES_AT > self._memory_bytes and not buffer.streamed and not buffer.has_messages:
            return self._arrive(buffer)
        if buffer.arriving and buffer.arriving.is_full:
            self.pace(buffer.arriving.await_room)
        if self._memory > self._memory_bytes:
            self._spill_largest()
        return None

    def fail(self, error: BaseException) -> None:
        """The rest of what is being received will not come: whoever takes it gets ``error``; from any thread."""
        if arriving := self._arriving:
            arriving.fail(error)

    def idle(self, lsn: int) -> Idle | None:
        """What a keepalive at ``lsn`` says, or None where it says nothing new.

        Transactions that are open on the server do not hold this back. A commit is sent before any keepalive
        that lies behind it, so what is open now commits after ``lsn``. And its first part is not lost when
        ``lsn`` is acknowledged: the server keeps the log from ``restart_lsn`` on, which never passes the begin
        of a transaction that was open at the acknowledged position, and streams it again from its first change.
        PostgreSQL's own subscriber acknowledges in the same way.
        """
        # A block is sent whole: inside of one the server only asks whether we are there.
        if self._open is not None or lsn <= self._floor:
            return None
        self._floor = lsn
        return Idle(lsn)

    def _frame(self, payload: bytes) -> Transaction | None:
        match decode_frame(payload):
            case Begin() as begin:
                self._begun = begin
                self._enter(payload, Buffer(begin.xid, self._relations))
            case Commit(commit_lsn, end_lsn, time):
                return self._complete(self._leave(payload, streamed=False), commit_lsn, end_lsn, time)
            case StreamStart(xid, first):
                self._enter(payload, self._block(payload, xid, first))
            case StreamStop():
                self._leave(payload, streamed=True)
            case StreamCommit(xid, commit_lsn, end_lsn, time):
                streamed = self._forget(payload, xid)
                self._adopt(streamed)
                return self._complete(streamed, commit_lsn, end_lsn, time)
            case StreamAbort(xid, subxid):
                self._abort(xid, subxid)
            case Origin():
                pass  # whose transaction it was makes no difference to its rows
            case BeginPrepare() | Prepare() | StreamPrepare() | CommitPrepared() | RollbackPrepared():
                raise _out_of_order(payload, "the slot decodes two-phase commits, which was not asked for")
            case unexpected:
                assert_never(unexpected)
        return None

    def _enter(self, payload: bytes, buffer: Buffer) -> None:
        if self._open is not None:
            raise _out_of_order(payload, f"transaction {self._open.xid} is not finished")
        self._open = buffer

    def _leave(self, payload: bytes, *, streamed: bool) -> Buffer:
        buffer, self._open = self._open, None
        if buffer is None or buffer.streamed is not streamed:
            raise _out_of_order(payload, "no such block has begun")
        return buffer

    def _block(self, payload: bytes, xid: int, first: bool) -> StreamedBuffer:
        if first is (xid in self._streamed):
            raise _out_of_order(payload, f"transaction {xid} has {'already' if first else 'never'} begun")
        if first:
            self._streamed[xid] = StreamedBuffer(xid)
        return self._streamed[xid]

    def _forget(self, payload: bytes, xid: int) -> StreamedBuffer:
        if self._open is not None or xid not in self._streamed:
            raise _out_of_order(payload, f"transaction {xid} is not between two blocks")
        return self._streamed.pop(xid)

    def _abort(self, xid: int, subxid: int) -> None:
        if (buffer := self._streamed.get(xid)) is None:
            return  # rolled back before any of its changes concerned the publication
        if subxid != xid:
            buffer.abort(subxid)
            return
        del self._streamed[xid]
        self._memory -= buffer.memory
        if buffer.spool:
            buffer.spool.close()

    def _arrive(self, buffer: Buffer) -> Transaction:
        """Hand out what has come and what will come of a transaction that is committed."""
        assert self._begun
        self._require_new(buffer, self._begun.commit_lsn)
        self._memory -= buffer.arrive(self._memory_bytes // _ARRIVES_AT)
        self._arriving = buffer.arriving
        self._early = Transaction(
            buffer.xid,
            self._begun.commit_lsn,
            0,
            self._begun.commit_time_us,
            buffer.changes(),
            buffer.size,
            buffer.bytes,
            packed=buffer.packed,
            await_whole=partial(buffer.await_whole, self._folder),
        )
        return self._early

    def _arrived(self, buffer: Buffer, arriving: Arriving, end_lsn: int) -> None:
        transaction, self._early = self._early, None
        assert transaction
        # Before the end is told: whoever has taken all of it reads these.
        transaction.end_lsn, transaction.size, transaction.bytes = end_lsn, buffer.size, buffer.bytes
        arriving.end()
        self._arriving = None

    def _require_new(self, buffer: Buffer, commit_lsn: int) -> None:
        if commit_lsn < self._floor:
            raise StreamStopped(
                f"transaction {buffer.xid} committed at {format_lsn(commit_lsn)}, and everything before"
                f" {format_lsn(self._floor)} was said to be complete",
                unchanged=_NOT_APPLIED,
                next_step="carveout doctor",
            )

    def _complete(self, buffer: Buffer, commit_lsn: int, end_lsn: int, time: int) -> Transaction | None:
        self._require_new(buffer, commit_lsn)
        self._floor = end_lsn
        if buffer.arriving:
            self._arrived(buffer, buffer.arriving, end_lsn)
            return None
        self._memory -= buffer.memory
        if buffer.spool:
            buffer.spool.flush()
            kill_point("apply.spooled")
        return Transaction(
            buffer.xid,
            commit_lsn,
            end_lsn,
            time,
            buffer.changes(),
            buffer.size,
            buffer.bytes,
            packed=None if buffer.has_messages else buffer.packed,
        )

    def _outside(self, tag: int, payload: bytes) -> None:
        if tag != MESSAGE or is_transactional(payload):
            raise _out_of_order(payload, "no transaction has begun")
        # A message that belongs to no transaction survives a rollback: it is nothing that was committed.

    def _describe(self, buffer: Buffer, payload: bytes) -> None:
        self._descriptions += 1
        relation = decode_relation(payload, streamed=buffer.streamed)
        if isinstance(buffer, StreamedBuffer):
            buffer.described[relation.oid] = (self._descriptions, relation)
        else:
            self._set_relation(self._descriptions, relation)

    def _adopt(self, buffer: StreamedBuffer) -> None:
        """From its commit on, the server counts as known what a streamed transaction described."""
        for number, relation in buffer.described.values():
            # Another transaction may have committed since with a newer description: that one stands.
            if number > self._described_at.get(relation.oid, 0):
                self._set_relation(number, relation)

    def _set_relation(self, number: int, relation: Relation) -> None:
        # A new mapping, not a new entry: transactions not yet decoded keep the one of their time.
        self._relations = {**self._relations, relation.oid: relation}
        self._described_at[relation.oid] = number

    def _spill_largest(self) -> None:
        candidates: list[Buffer] = [*self._streamed.values()]
        if self._open is not None and not self._open.streamed:
            candidates.append(self._open)
        largest = max(candidates, key=lambda buffer: buffer.memory)
        logger.info("transaction %d: %d bytes go to a spool file in %s", largest.xid, largest.memory, self._folder)
        self._memory -= largest.spill(self._folder)


def _out_of_order(payload: bytes, reason: str) -> OutOfOrder:
    return OutOfOrder(
        f"{message_name(payload)} out of order: {reason}",
        unchanged=_NOT_APPLIED,
        next_step="start the worker again; if it stops again, carveout doctor",
    )
