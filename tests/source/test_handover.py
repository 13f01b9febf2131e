from __future__ import annotations

import threading

import pytest

from cdc.events import Idle, Transaction
from cdc.source.handover import Handover


def transaction(xid: int) -> Transaction:
    return Transaction(xid, xid, xid, 0, (), 0, 0)


def test_events_come_in_order_and_idles_in_a_row_are_one() -> None:
    queue = Handover(1000)
    assert queue.get(0) is None
    for event in (Idle(1), Idle(2), transaction(3), Idle(4), Idle(5)):
        assert queue.put(event, 10, 0)
    assert queue.bytes == 30
    assert [queue.get(0) for _ in range(4)] == [Idle(2), transaction(3), Idle(5), None]
    assert queue.bytes == 0


def test_a_full_queue_takes_no_more_and_a_heavy_event_goes_in_alone() -> None:
    queue = Handover(100)
    assert queue.put(transaction(1), 5000, 0)
    assert not queue.put(transaction(2), 1, 0)
    assert queue.get(0) == transaction(1)
    assert queue.put(transaction(2), 60, 0)
    assert not queue.put(transaction(3), 60, 0)


def test_a_waiting_putter_goes_on_when_there_is_room() -> None:
    queue, done = Handover(100), threading.Event()
    queue.put(transaction(1), 100, 0)

    def put() -> None:
        assert queue.put(transaction(2), 100, 30)
        done.set()

    thread = threading.Thread(target=put)
    thread.start()
    assert queue.get(0) == transaction(1)
    assert done.wait(30)
    thread.join()
    assert queue.get(0) == transaction(2)


def test_an_error_comes_after_the_events_before_it_and_stays() -> None:
    queue = Handover(100)
    queue.put(transaction(1), 1, 0)
    queue.fail(ValueError("broken"))
    assert queue.get(0) == transaction(1)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            queue.get(30)


def test_a_closed_queue_drops_everything_at_once() -> None:
    queue = Handover(1)
    queue.put(transaction(1), 1, 0)
    queue.close()
    assert queue.put(transaction(2), 1, 30)
    assert queue.get(30) is None
    assert queue.bytes == 0
