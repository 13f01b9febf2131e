"""The records of one open transaction: kept raw, and decoded when the finished transaction is iterated.

The two kinds differ in what the server knows when it sends them. A transaction sent at its commit is complete and
final. A streamed one is sent while it is still open: its subtransactions may yet be rolled back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from cdc.events import Change, Packed, Relation
from cdc.source.arriving import Arriving
from cdc.source.packed import without_xid
from cdc.source.pgoutput import CHANGES, MESSAGE, Decoder, record_xid
from cdc.source.spool import Spool
from cdc.source.subtransactions import Subtransactions

#: What a record costs in memory beyond its bytes: the object's header and its place in the list.
RECORD_OVERHEAD: Final = 48


class Buffer:
    """A transaction that is sent at its commit."""

    streamed = False

    def __init__(self, xid: int, relations: Mapping[int, Relation]) -> None:
        self.xid = xid
        #: The relations known where the transaction stands in commit order.
        self.relations = relations
        #: Changes and payload bytes, without what was rolled back.
        self.size = 0
        self.bytes = 0
        #: Bytes held in memory.
        self.memory = 0
        self.spool: Spool | None = None
        #: Where the records go once the transaction is handed over before all of it has come.
        self.arriving: Arriving | None = None
        self.has_messages = False
        self._records: list[bytes] = []

    def add(self, tag: int, payload: bytes) -> int:
        """Keep a record; returns by how many bytes the memory grew.

        :raises SpoolFull: the transaction is spooled, and its file cannot grow.
        """
        length = len(payload)
        self.bytes += length
        if tag in CHANGES:
            self.size += 1
            if tag == MESSAGE:
                self.has_messages = True
        if self.arriving:
            self.arriving.add(payload)
            return 0
        if self.spool:
            self.spool.append(payload)
            return 0
        self._records.append(payload)
        self.memory += length + RECORD_OVERHEAD
        return length + RECORD_OVERHEAD

    def spill(self, folder: Path) -> int:
        """Move the records to a spool file, and all that follow; returns the bytes of memory freed.

        :raises SpoolFull: the file cannot be made or cannot grow.
        """
        self.spool = self.spool or Spool(folder)
        self.spool.extend(self._records)
        freed, self.memory = self.memory, 0
        self._records = []
        return freed

    def arrive(self, limit_bytes: int) -> int:
        """Let the records be taken while they come; returns the bytes of memory freed."""
        self.arriving = Arriving(limit_bytes)
        for record in self._records:
            self.arriving.add(record)
        freed, self.memory = self.memory, 0
        self._records = []
        return freed

    def await_whole(self, folder: Path) -> None:
        """Wait until all of an arriving transaction has come; what came waits in a spool file.

        :raises SpoolFull: the file cannot be made or cannot grow.
        """
        assert self.arriving
        self.spool = self.arriving.spooled(folder)

    def changes(self) -> Iterator[Change]:
        """The changes, decoded one by one; can be iterated once."""
        decode = Decoder(self.relations, streamed=self.streamed).decode
        for record in self._kept():
            if (change := decode(record)) is not None:
                yield change

    def packed(self) -> Packed:
        """The changes as they were sent, without xids; to be taken instead of :meth:`changes`."""
        return Packed(self._kept(), Decoder(self.relations))

    def _kept(self) -> Iterable[bytes]:
        """The records of what was not rolled back."""
        if self.spool:
            return self.spool.read()
        return self.arriving.records() if self.arriving else self._records


class StreamedBuffer(Buffer):
    """A transaction that is sent in blocks while it is open on the server."""

    streamed = True

    def __init__(self, xid: int) -> None:
        # The server describes every relation anew in each streamed transaction.
        super().__init__(xid, {})
        #: By OID: the last relation described, and the number of that message in the stream.
        self.described: dict[int, tuple[int, Relation]] = {}
        self._parts = Subtransactions(xid)

    def add(self, tag: int, payload: bytes) -> int:
        self._parts.add(record_xid(payload), tag in CHANGES, len(payload))
        return super().add(tag, payload)

    def abort(self, subxid: int) -> None:
        """A subtransaction was rolled back: its changes are left out."""
        # Its relations stay: the server counts them as described for the rest of the transaction.
        size, length = self._parts.abort(subxid)
        self.size -= size
        self.bytes -= length

    def packed(self) -> Packed:
        return Packed(map(without_xid, self._kept()), Decoder(self.relations))

    def _kept(self) -> Iterable[bytes]:
        records = super()._kept()
        if not self._parts.any_aborted:
            return records
        return (r for r in records if r[0] not in CHANGES or not self._parts.is_aborted(record_xid(r)))
