"""Kafka's record batches taken apart in few steps: kafka-python makes 14 fields of each record, and we need three.

Connection, fetches, checksums, compression and the choice of committed batches stay kafka-python's. What is replaced
is its loop over the records of one batch, which was a third of a worker's time. It is no public part of kafka-python,
so with a release that was not tested :func:`speed_up` leaves the consumer as it is.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

#: The releases of kafka-python whose inner parts are as we take them.
TESTED = "3.0."
_log = logging.getLogger(__name__)


class Record(NamedTuple):
    """What the stream wants of a record."""

    offset: int
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def speed_up(consumer: Any) -> None:
    """Have ``consumer`` hand out :class:`Record` instead of its own records."""
    import kafka

    if not kafka.__version__.startswith(TESTED):
        _log.warning("kafka-python %s is not known: reading from Kafka is slower than it could be", kafka.__version__)
        return
    fetcher: Any = consumer._fetcher
    fetcher.PartitionRecords = _fast(fetcher.PartitionRecords)


@functools.cache
def _fast(stock: Any) -> Any:
    from kafka.errors import CorruptRecordError

    class PartitionRecords(stock):  # type: ignore[misc]
        """The records of one fetch."""

        def _unpack_records(self, _partition: Any, records: Any, *_deserializers: Any) -> Iterator[Record]:
            while (batch := records.next_batch()) is not None:
                if self.check_crcs and not batch.validate_crc():
                    raise CorruptRecordError(f"offset {batch.base_offset}: the checksum of the batch differs")
                self.leader_epoch = batch.leader_epoch
                if self._is_visible(batch):
                    for record in unpacked(batch):
                        self.records_read += 1
                        self.next_fetch_offset = record.offset + 1
                        yield record
                    self.bytes_read += batch.size_in_bytes
                self.next_fetch_offset = batch.next_offset
            self.drain()

        def _is_visible(self, batch: Any) -> bool:
            """Whether the batch holds records of no transaction, or of one that was committed."""
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            return not (batch.is_control_batch or self._is_batch_aborted(batch))

    return PartitionRecords


def unpacked(batch: Any) -> Iterator[Record]:
    """The records of a batch of kafka-python's, which is decompressed for it.

    :raises CorruptRecordError: it is not built as a batch is.
    """
    from kafka.errors import CorruptRecordError

    iter(batch)
    data, pos = bytes(batch._buffer), batch._pos
    try:
        for _ in range(batch.records_count):
            record, pos = _record(data, pos, batch.base_offset)
            yield record
    except (ValueError, IndexError) as error:
        raise CorruptRecordError(f"a batch of records cannot be read: {error}") from error
    if pos != len(data):
        raise CorruptRecordError("a batch of records is longer than its records")


def _record(data: bytes, pos: int, base: int) -> tuple[Record, int]:
    """A record, and where the next begins: length, attributes, time, offset, key, value, headers (KIP-98)."""
    length, pos = _number(data, pos)
    end = pos + length
    _, pos = _number(data, pos + 1)
    delta, pos = _number(data, pos)
    size, pos = _number(data, pos)
    size, pos = _number(data, pos + max(size, 0))
    value = None if size < 0 else data[pos : pos + size]
    pos += max(size, 0)
    if not pos < end <= len(data):
        raise ValueError("a record is longer than it says")
    return Record(base + delta, value, _headers(data[pos:end])), end


@functools.lru_cache(maxsize=64)
def _headers(data: bytes) -> tuple[tuple[str, bytes | None], ...]:
    """Headers; those of records that follow each other are mostly the same bytes."""
    count, pos = _number(data, 0)
    found = []
    for _ in range(count):
        size, pos = _number(data, pos)
        name, pos = data[pos : pos + size].decode(), pos + size
        size, pos = _number(data, pos)
        found.append((name, None if size < 0 else data[pos : pos + size]))
        pos += max(size, 0)
    if pos != len(data):
        raise ValueError("headers are longer than they say")
    return tuple(found)


def _number(data: bytes, pos: int) -> tuple[int, int]:
    """A number of variable length, its sign in the lowest bit, and where it ends."""
    byte = data[pos]
    number, shift = byte & 0x7F, 7
    while byte & 0x80:
        pos += 1
        byte = data[pos]
        number |= (byte & 0x7F) << shift
        shift += 7
    return (number >> 1) ^ -(number & 1), pos + 1
