"""Transactions are put together again whatever comes first, however often the connector is restarted or set back."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from cdc.events import Delete, Idle, Insert, Message, Transaction, Truncate, Update
from cdc.kafka.decoder import Undecodable
from cdc.kafka.decoder.merging import MergingDecoder
from cdc.kafka.decoder.parts import RowReader, Sent
from cdc.kafka.settings import HEARTBEAT_PREFIX, Encoding
from tests.kafka.test_transactions import NAME, PLACEHOLDER, TABLE, boundary, event, message, row

PARTS = 3
ENCODING = Encoding(placeholder=PLACEHOLDER)
STARTED = {"id": "1", "type": "SKIPPED", "aggregate_type": "Initial Snapshot", "additional_data": {}, "timestamp": 1}
#: Transactions of the simulated source: for each the keys of its rows; the key is the value, too.
Source = list[list[int]]


def xid_of(number: int) -> int:
    return 100 + number


def end_of(number: int) -> int:
    return 1000 * (number + 1)


@dataclass
class Broker:
    """What a connector has sent: the ordered topic, and the partitions of the rows."""

    control: list[bytes] = field(default_factory=list)
    parts: list[list[Sent]] = field(default_factory=lambda: [[] for _ in range(PARTS)])
    runs: int = 0

    def __post_init__(self) -> None:
        self._reader = RowReader({NAME: TABLE}, ENCODING)

    def say(self, payload: dict[str, Any]) -> None:
        self.control.append(json.dumps(payload).encode())

    def start(self) -> None:
        self.runs += 1
        self.say(STARTED)

    def rows(self, number: int, keys: list[int], first: int = 1) -> None:
        for order, key in enumerate(keys, first):
            self.put(key % PARTS, event("c", xid_of(number), order, after=row(key), lsn=end_of(number) - 100 + order))

    def put(self, part: int, payload: dict[str, Any], **headers: bytes) -> None:
        sent = [("__debezium.context.runId", str(self.runs).encode())]
        sent += [(f"__debezium.{name}", value) for name, value in headers.items()]
        read = self._reader.read(json.dumps(payload).encode(), sent, len(self.parts[part]))
        assert read is not None
        self.parts[part].append(read)

    def begin(self, number: int) -> None:
        self.say(boundary("BEGIN", xid_of(number), end_of(number) - 100))

    def end(self, number: int, count: int) -> None:
        self.say(boundary("END", xid_of(number), end_of(number), count))

    def send(self, number: int, keys: list[int]) -> None:
        self.begin(number)
        self.rows(number, keys)
        self.end(number, len(keys))


class Reader:
    """Reads what was sent in any order that keeps each partition's own."""

    def __init__(self, broker: Broker, order: random.Random) -> None:
        self.broker, self.order = broker, order
        self.found: list[Transaction] = []
        self.at = (10, 0, (0,) * PARTS)
        self.open()

    def open(self) -> None:
        """As a worker does that starts with the stored position."""
        lsn, self.next, starts = self.at
        self.next_row = list(starts)
        self.decoder = MergingDecoder(
            {NAME: TABLE}, ENCODING, lsn, is_continued=self.next > 0, parts=starts
        )  # fmt: skip

    def step(self) -> None:
        part = self.order.randrange(PARTS + 1)
        if part < PARTS:
            at = self.next_row[part]
            some = self.broker.parts[part][at : at + self.order.randint(1, 4)]
            self.decoder.add(part, some)
            self.next_row[part] += len(some)
        elif not self.decoder.is_waiting and self.next < len(self.broker.control):
            self.next += 1
            self.take(self.decoder.record(self.broker.control[self.next - 1], (), self.next - 1))
        self.take(self.decoder.assemble())

    def take(self, found: object) -> None:
        if isinstance(found, Transaction):
            self.found.append(found)
        if isinstance(found, Transaction | Idle):
            self.at = (found.end_lsn if isinstance(found, Transaction) else found.lsn, found.ordinal, found.parts)

    @property
    def has_all(self) -> bool:
        sizes = [len(part) for part in self.broker.parts]
        return self.next == len(self.broker.control) and self.next_row == sizes

    def read_all(self) -> None:
        while not self.has_all:
            self.step()
        self.take(self.decoder.assemble())

    def keys(self) -> list[list[int]]:
        return [[int(c.new[0]) for c in t.changes if isinstance(c, Insert)] for t in self.found]  # type: ignore[arg-type]


def in_order(broker: Broker, order: random.Random, source: Source) -> None:
    for number, keys in enumerate(source):
        if order.random() < 0.2:
            broker.start()
        broker.send(number, keys)


def cut_and_sent_anew(broker: Broker, order: random.Random, source: Source) -> None:
    """Some break off inside; the connector is set back to before them and sends them from their beginning."""
    for number, keys in enumerate(source):
        for _ in range(order.choice([0, 0, 1, 2])):
            broker.begin(number)
            broker.rows(number, keys[: order.randint(0, len(keys))])
            broker.start()
        broker.send(number, keys)


def set_back_far(broker: Broker, order: random.Random, source: Source) -> None:
    """The connector is set back over whole transactions, which come again."""
    number = 0
    while number < len(source):
        broker.send(number, source[number])
        number += 1
        if order.random() < 0.3:
            number = max(0, number - order.randint(1, 3))
            broker.start()


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("sent", [in_order, cut_and_sent_anew, set_back_far])
def test_each_transaction_comes_once_and_whole(
    sent: Callable[[Broker, random.Random, Source], None], seed: int
) -> None:
    order = random.Random(seed)
    source = [[order.randrange(50) for _ in range(order.randint(1, 6))] for _ in range(12)]
    broker = Broker()
    broker.start()
    sent(broker, order, source)
    reader = Reader(broker, order)
    for _ in range(5):
        for _ in range(order.randint(1, 100)):
            reader.step()
        reader.open()
    reader.read_all()
    assert reader.keys() == source
    again = Reader(broker, order)
    again.at = reader.at
    again.open()
    again.read_all()
    assert again.found == [], "the position includes everything"


@pytest.mark.parametrize("seed", range(10))
def test_what_left_out_rows_is_told_and_taken_when_it_comes_whole(seed: int) -> None:
    """The connector went on behind rows that share a position: its END counts only what it sent."""
    order = random.Random(seed)
    source = [[n, n + 1, n + 2, n + 3] for n in range(4)]
    broker = Broker()
    broker.start()
    broker.send(0, source[0])
    broker.begin(1)
    broker.rows(1, source[1][:2])
    broker.start()
    broker.rows(1, source[1][3:], first=3)
    broker.end(1, 3)
    broker.send(2, source[2])
    reader = Reader(broker, order)
    reader.read_all()
    assert reader.keys() == source[:1]
    assert reader.decoder.is_broken
    broker.start()  # set back to the end of the last whole transaction
    for number in (1, 2, 3):
        broker.send(number, source[number])
    reader.read_all()
    assert reader.keys() == source
    assert not reader.decoder.is_broken


def one(
    *payloads: tuple[int, dict[str, Any], dict[str, bytes]], count: int, says: tuple[dict[str, Any], ...] = ()
) -> Any:
    broker = Broker()
    broker.start()
    broker.begin(0)
    for payload in says:
        broker.say(payload)
    for part, payload, headers in payloads:
        broker.put(part, payload, **headers)
    broker.end(0, count)
    reader = Reader(broker, random.Random(1))
    for part in range(PARTS):
        reader.decoder.add(part, broker.parts[part])
        reader.next_row[part] = len(broker.parts[part])
    reader.read_all()
    return reader


def test_changes_of_every_kind_are_in_their_order() -> None:
    x = xid_of(0)
    said = message(x, 905) | {"transaction": {"id": f"{x}:905", "total_order": 5, "data_collection_order": 1}}
    reader = one(
        (2, event("u", x, 1, after=row(1, "new"), lsn=901), {}),
        (0, event("d", x, 2, before=row(2), lsn=902), {"newkey": b"{}"}),
        (1, event("c", x, 3, after=row(3), lsn=902), {"oldkey": b"{}"}),
        (0, event("d", x, 4, before=row(4), lsn=904), {}),
        (2, event("t", x, 6, lsn=906), {}),
        count=6, says=(said,),
    )  # fmt: skip
    [found] = reader.found
    kinds = [type(change) for change in found.changes]
    assert kinds == [Update, Update, Delete, Message, Truncate]
    assert (found.changes[1].old[0], found.changes[1].new[0]) == (b"2", b"3")
    assert (found.end_lsn, found.ordinal, found.parts, found.only_rows) == (1000, 4, (2, 1, 2), False)


@pytest.mark.parametrize("restarted", [None, 1, 2])
def test_heartbeats_only_are_an_idle_event(restarted: int | None) -> None:
    """Wherever in it the connector is restarted: nothing else is in its transaction."""
    broker = Broker()
    steps: list[Callable[[], None]] = [
        lambda: broker.begin(0),
        lambda: broker.say(message(xid_of(0), 905, HEARTBEAT_PREFIX)),
        lambda: broker.end(0, 1),
    ]
    if restarted:
        steps.insert(restarted, broker.start)
    for step in steps:
        step()
    reader = Reader(broker, random.Random(1))
    reader.read_all()
    assert reader.found == []
    assert reader.at == (1000, len(steps), (0,) * PARTS)


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        ([(0, event("c", 100, 1, after=row(1)), {}), (1, event("c", 100, 3, after=row(2)), {})], 3),
        ([(0, event("c", 100, 1, after=row(1)), {}), (1, event("c", 100, 3, after=row(2)), {})], 2),
        ([(0, event("c", 100, 1, after=row(1)), {}), (1, event("c", 100, 1, after=row(2)), {})], 1),
        ([(0, event("c", 100, 1, after=row(1), lsn=60), {}), (1, event("c", 100, 2, after=row(2), lsn=50), {})], 2),
    ],
    ids=["one is missing", "the count lies", "two for one place", "of two attempts"],
)
def test_what_is_not_whole_is_never_given_out(rows: list[Any], count: int) -> None:
    reader = one(*rows, count=count)
    assert reader.found == []
    assert reader.decoder.is_waiting


def test_halves_of_a_changed_key_belong_together() -> None:
    with pytest.raises(Undecodable, match="a changed key"):
        one(
            (0, event("d", 100, 1, before=row(1)), {"newkey": b"{}"}),
            (0, event("c", 100, 2, after=row(1)), {}),
            count=2,
        )
    with pytest.raises(Undecodable, match="a changed key"):
        one((0, event("c", 100, 1, after=row(1)), {"oldkey": b"{}"}), count=1)


def test_a_row_among_the_rest_stops_the_stream() -> None:
    broker = Broker()
    broker.begin(0)
    broker.say(event("c", 100, 1, after=row(1)))
    with pytest.raises(Undecodable, match="in the topic of everything else"):
        Reader(broker, random.Random(1)).read_all()
