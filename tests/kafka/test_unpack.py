"""Record batches taken apart by us hold what kafka-python finds in them."""

from __future__ import annotations

import random
import struct
from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import IsolationLevel, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords, MemoryRecordsBuilder
from kafka.record.util import calc_crc32c

from cdc.kafka import unpack

PARTITION = TopicPartition("topic", 0)
GZIP, LZ4, ZSTD = 1, 3, 4
COMMIT, ABORT = 1, 0
_CONTROL, _ATTRIBUTES, _CRC = 0x20, 21, 17
Aborted = namedtuple("Aborted", "producer_id first_offset")
Seen = list[tuple[int, bytes | None, tuple[tuple[str, bytes | None], ...]]]


def read(data: bytes, *, fast: bool, at: int = 0, per_poll: int = 3, aborted: tuple[Aborted, ...] = ()) -> Any:
    """What a poll of so many records at a time hands out, and the fetch at its end."""
    fetcher = SimpleNamespace(PartitionRecords=Fetcher.PartitionRecords)
    if fast:
        unpack.speed_up(SimpleNamespace(_fetcher=fetcher))
    records = fetcher.PartitionRecords(
        at, PARTITION, MemoryRecords(data), isolation_level=IsolationLevel.READ_COMMITTED, aborted_transactions=aborted
    )
    seen: Seen = []
    while records:
        taken = records.take(per_poll)
        assert all(isinstance(record, unpack.Record) == fast for record in taken)
        seen += [(record.offset, record.value, tuple(record.headers)) for record in taken]
    return seen, records.next_fetch_offset, records.leader_epoch, records.records_read


def both(data: bytes, **given: Any) -> Seen:
    ours, stock = read(data, fast=True, **given), read(data, fast=False, **given)
    assert ours == stock
    seen: Seen = ours[0]
    return seen


def batch(offset: int, values: list[Any], *, codec: int = 0, producer: int = -1) -> bytes:
    """A batch of records, each a value or a triple of key, value and headers."""
    epoch = -1 if producer < 0 else 0
    builder = MemoryRecordsBuilder(
        2, codec, 1 << 30, transactional=producer >= 0, producer_id=producer, producer_epoch=epoch, base_sequence=epoch
    )
    for n, value in enumerate(values):
        key, value, headers = value if isinstance(value, tuple) else (b"key", value, [])
        builder.append(1_795_711_545_000 + n, key, value, headers)
    builder.close()
    return struct.pack(">q", offset) + bytes(builder.buffer())[8:]


def marker(offset: int, kind: int, producer: int) -> bytes:
    """The control batch that ends a producer's transaction."""
    made = bytearray(batch(offset, [(struct.pack(">hh", 0, kind), b"\0" * 6, [])], producer=producer))
    made[_ATTRIBUTES + 1] |= _CONTROL
    struct.pack_into(">I", made, _CRC, calc_crc32c(bytes(made[_ATTRIBUTES:])))
    return bytes(made)


def some_records(random: random.Random) -> list[Any]:
    def some_bytes() -> bytes | None:
        return random.choice([None, b"", random.randbytes(random.choice([1, 63, 64, 127, 128, 9000, 70_000]))])

    def headers() -> list[tuple[str, bytes | None]]:
        return [(random.choice(["", "run", "é" * 70]), some_bytes()) for _ in range(random.choice([0, 0, 4]))]

    return [(some_bytes(), some_bytes(), headers()) for _ in range(random.randrange(1, 9))]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_a_batch_holds(seed: int) -> None:
    chance, data, offset, made = random.Random(seed), b"", seed * 1_000_003, []
    for _ in range(4):
        records = some_records(chance)
        made += [(value, tuple(headers)) for _, value, headers in records]
        data += batch(offset, records, codec=chance.choice([0, GZIP, LZ4, ZSTD]))
        offset += len(records)
    assert [(value, headers) for _, value, headers in both(data, per_poll=chance.choice([1, 3, 1000]))] == made


def test_a_fetch_that_begins_inside_a_batch() -> None:
    data = batch(100, [b"a", b"b", b"c"], codec=LZ4)
    assert both(data, at=102) == [(102, b"c", ())]


def test_what_was_not_committed_is_left_out() -> None:
    data = (
        batch(0, [b"kept"], producer=7) + batch(1, [b"aborted"], producer=8) + batch(2, [b"kept too"], producer=7)
        + marker(3, ABORT, 8) + marker(4, COMMIT, 7) + batch(5, [b"later"], producer=8) + marker(6, COMMIT, 8)
    )  # fmt: skip
    seen = both(data, aborted=(Aborted(8, 1),))
    assert [value for _, value, _ in seen] == [b"kept", b"kept too", b"later"]


def test_a_batch_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray(batch(0, [b"value"]))
    data[-3] ^= 1
    with pytest.raises(CorruptRecordError, match="checksum"):
        read(bytes(data), fast=True)


@pytest.mark.parametrize("place", range(61, 61 + 18))
def test_a_batch_that_is_built_wrongly_is_refused_or_read_as_by_the_client(place: int) -> None:
    data = bytearray(batch(0, [(b"key", b"value", [("h", b"v")])]))
    data[place] ^= 0x55
    struct.pack_into(">I", data, _CRC, calc_crc32c(bytes(data[_ATTRIBUTES:])))
    try:
        stock = read(bytes(data), fast=False)
    except Exception:  # an assertion of the client's, or its own error
        with pytest.raises(CorruptRecordError):
            read(bytes(data), fast=True)
    else:
        assert read(bytes(data), fast=True) == stock


def test_an_unknown_client_is_left_as_it_is(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka.__version__", "3.1.0")
    consumer = SimpleNamespace(_fetcher=SimpleNamespace(PartitionRecords=object))
    unpack.speed_up(consumer)
    assert consumer._fetcher.PartitionRecords is object
    assert "slower" in caplog.text
