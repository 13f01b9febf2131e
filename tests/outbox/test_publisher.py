"""Order and refusals, with a sink whose answers the test decides."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator, Mapping

import pytest

from cdc import state
from cdc.outbox import queue
from cdc.outbox.events import OutboxEvent
from cdc.outbox.publisher import Publisher
from cdc.outbox.sinks import Outcome, SinkUnreachable, without_line
from cdc.state.position import StreamId
from contexts.databases import Connection, Databases
from contexts.model import Context, Side
from migrator.control.migrations import Migration
from migrator.lifecycle import State
from migrator.worker.outbox import OutboxTask
from tests.waiting import wait_until

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def event(name: str, key: str | None, topic: str = "t") -> OutboxEvent:
    return OutboxEvent(topic, key, name, (("id", name),), name.encode(), AT)


class Listening:
    """Keeps what it takes; refuses some, and fails when it is told to."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.refuses: set[str] = set()
        self.fails = False

    def publish(self, events: Mapping[int, OutboxEvent]) -> Outcome:
        left, refused = dict(events), dict[int, str]()
        for number, one in events.items():
            if number in left and one.event_id in self.refuses:
                refused[number] = "too large"
                left = without_line(left, number)
        self.heard += [one.event_id for one in left.values()]
        if self.fails:
            raise SinkUnreachable("away")
        return Outcome(list(left), refused)

    def close(self) -> None:
        pass


@pytest.fixture
def sides(pair: Databases) -> Iterator[dict[Side, Connection]]:
    for side in Side:
        state.install(pair[side])
    with pair.shared.connect("test") as shared, pair.service.connect("test") as service:
        yield {Side.SHARED: shared, Side.SERVICE: service}


def put(sides: dict[Side, Connection], side: Side, epoch: int, *events: OutboxEvent) -> None:
    queue.add(sides[side], StreamId("shop", epoch), events)


def test_earlier_streams_come_first_whichever_side_holds_them(sides: dict[Side, Connection]) -> None:
    put(sides, Side.SERVICE, 1, event("a1", "a"))
    put(sides, Side.SHARED, 2, event("a2", "a"))
    put(sides, Side.SERVICE, 3, event("a3", "a"))
    queue.add(sides[Side.SERVICE], StreamId("other", 0), [event("not mine", "a")])
    sink = Listening()
    assert Publisher("shop", sides, sink).run() == 3
    assert sink.heard == ["a1", "a2", "a3"]
    assert Publisher("shop", sides, sink).run() == 0


@pytest.mark.parametrize("first", list(Side))
def test_a_switch_between_the_looks_at_both_sides_reorders_nothing(
    sides: dict[Side, Connection], monkeypatch: pytest.MonkeyPatch, first: Side
) -> None:
    """The side that is asked first gets the last event of a stream, and the other one the first of the next stream."""
    asked = queue.epochs

    def epochs(conn: Connection, context: str) -> list[int]:
        found = asked(conn, context)
        if conn is sides[first] and not switched:
            switched.append(True)
            put(sides, first, 1, event("a1", "a"))
            put(sides, first.other, 2, event("a2", "a"))
        return found

    switched: list[bool] = []
    monkeypatch.setattr(queue, "epochs", epochs)
    sink = Listening()
    publisher = Publisher("shop", {first: sides[first], first.other: sides[first.other]}, sink)
    assert publisher.run() + publisher.run() == 2
    assert sink.heard == ["a1", "a2"]


def test_what_is_refused_holds_its_line_on_both_sides_and_nothing_else(sides: dict[Side, Connection]) -> None:
    put(sides, Side.SERVICE, 1, event("a1", "a"), event("a2", "a"), event("b1", "b"), event("n1", None))
    put(sides, Side.SHARED, 2, event("a3", "a"), event("b2", "b"), event("n2", None), event("o", "a", "other"))
    sink = Listening()
    sink.refuses = {"a1", "n1"}
    publisher = Publisher("shop", sides, sink)
    publisher.run()
    assert sink.heard == ["b1", "b2", "n2", "o"]
    backlog = queue.backlog(sides[Side.SERVICE], "shop")
    assert [(held.event_id, held.reason) for held in backlog.first_held] == [("a1", "too large"), ("n1", "too large")]
    put(sides, Side.SHARED, 2, event("a4", "a"))
    assert publisher.run() == 0

    assert queue.skip(sides[Side.SERVICE], "shop", "a1") == 1
    publisher.run()
    assert sink.heard[4:] == ["a2", "a3", "a4"]
    sink.refuses.clear()
    assert queue.release(sides[Side.SERVICE], "shop") == 1
    publisher.run()
    assert sink.heard[7:] == ["n1"]
    assert queue.backlog(sides[Side.SERVICE], "shop").events == 0


def test_what_was_not_acknowledged_comes_again_in_its_order(sides: dict[Side, Connection]) -> None:
    put(sides, Side.SERVICE, 1, *(event(f"a{n}", "a") for n in range(3)))
    sink = Listening()
    sink.fails = True
    with pytest.raises(SinkUnreachable):
        Publisher("shop", sides, sink).run()
    sink.fails = False
    Publisher("shop", sides, sink).run()
    assert sink.heard == ["a0", "a1", "a2"] * 2


def test_events_keep_their_order_over_batches(sides: dict[Side, Connection], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdc.outbox.publisher.BATCH", 7)
    names = [f"e{n}" for n in range(40)]
    put(sides, Side.SERVICE, 1, *(event(name, name[-1]) for name in names))
    sink = Listening()
    assert Publisher("shop", sides, sink).run() == 40
    assert sink.heard == names


def test_large_events_make_small_batches(sides: dict[Side, Connection], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdc.outbox.queue.BATCH_BYTES", 5)
    put(sides, Side.SERVICE, 1, *(event(name, "k") for name in ("a" * 9, "bb", "cc", "dd", "e")))
    stream, found = StreamId("shop", 1), list[list[str]]()
    while batch := queue.following(sides[Side.SERVICE], stream, (), 100):
        found.append([one.event_id[:1] for one in batch.values()])
        queue.published(sides[Side.SERVICE], batch)
    assert found == [["a"], ["b", "c", "d"], ["e"]]


def test_a_worker_publishes_only_while_it_is_its_turn(
    sides: dict[Side, Connection], pair: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, taken, stop = Listening(), threading.Event(), threading.Event()
    monkeypatch.setattr("migrator.worker.outbox.open_sink", lambda _: sink)
    declared = {"table": "shop.outbox"}
    context = Context.model_validate({
        "name": "shop", "tables": [{"name": "shop.outbox"}], "service": {"url": ""}, "outbox": [declared],
        "outbox_sink": {"kind": "table", "url": "", "table": "t"},
    })  # fmt: skip
    task = OutboxTask(context, pair, stop, taken)
    task.assign(Migration("shop", State.STREAMING, Side.SHARED, 1))
    put(sides, Side.SERVICE, 1, event("first", "a"))
    taken.set()
    wait_until(lambda: task.report.get("published") == 1)
    taken.clear()  # another worker has the seat, and this one must have let go of the queue
    gone = (
        "SELECT FROM pg_stat_activity WHERE application_name = 'carveout/outbox/shop' AND datname = current_database()"
    )
    wait_until(lambda: sides[Side.SERVICE].execute(gone.encode()).fetchone() is None)
    put(sides, Side.SERVICE, 1, event("second", "a"))
    assert sink.heard == ["first"]
    taken.set()
    wait_until(lambda: sink.heard == ["first", "second"])
    stop.set()
    task.join()
