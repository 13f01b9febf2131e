"""One batch is written while the next is collected."""

from __future__ import annotations

import threading
from unittest.mock import Mock

import pytest

from cdc.apply.ahead import Ahead
from cdc.events import Event
from cdc.worker.signals import Signals
from cdc.worker.stream import Stream
from contexts.errors import DatabaseUnreachable, StreamStopped
from contexts.model import Options
from tests.apply.conftest import STREAM, World

T = "CREATE TABLE t (id int PRIMARY KEY, v text)"


def test_jobs_run_in_order_and_none_behind_one_that_failed() -> None:
    ahead, done = Ahead(), list[int]()
    for number in range(5):
        ahead.start(lambda number=number: done.append(number))  # type: ignore[misc]
    assert ahead.is_busy
    ahead.wait()
    assert (done, ahead.is_busy) == ([0, 1, 2, 3, 4], False)
    ahead.start(lambda: done.append(1 // 0))
    ahead.start(lambda: done.append(5))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            ahead.wait()
    ahead.end()
    assert done == [0, 1, 2, 3, 4]


def test_the_end_waits_for_the_job_under_way_and_starts_no_other() -> None:
    ahead, done, go, begun = Ahead(), list[str](), threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        go.wait(30)
        done.append("first")

    ahead.start(first)
    ahead.start(lambda: done.append("second"))
    begun.wait(30)
    threading.Timer(0.05, go.set).start()
    ahead.end()
    assert done == ["first"]


def test_the_next_batch_is_collected_while_one_is_held_up(world: World) -> None:
    world.both(T)
    applier = world.start("t")
    for number in range(3):
        world.write(f"INSERT INTO t SELECT i, 'a' FROM generate_series({number * 10}, {number * 10 + 9}) AS i")
    first, second, third = world.slot.read_packed()
    applier.apply(first)
    with world.service.transaction():
        world.service.execute("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
        applier.commit_ahead()
        assert (applier.is_writing, applier.position.end_lsn, bool(applier.pending)) == (True, 0, False)
        applier.apply(second)
        assert applier.idle(third.end_lsn) is None
    applier.apply(third)
    assert applier.settle() == applier.position.end_lsn == first.end_lsn
    assert len(world.rows(world.service, "public.t")) == 10
    assert applier.commit() == third.end_lsn
    assert len(world.same()) == 30


def test_what_fails_ahead_stops_the_applier_and_leaves_the_position(world: World) -> None:
    world.both(T)
    world.shared.execute("INSERT INTO public.t SELECT i, 'a' FROM generate_series(1, 9) AS i")  # the copy left it out
    applier = world.start("t")
    world.write("UPDATE t SET v = 'b'")
    world.write("INSERT INTO t VALUES (10, 'a')")
    first, second = world.slot.read_packed()
    applier.apply(first)
    applier.commit_ahead()
    applier.apply(second)
    with pytest.raises(StreamStopped, match=r"update of public\.t \(id\)=\(1\): no row there"):
        applier.commit()
    with pytest.raises(StreamStopped, match="this applier has ended"):
        applier.apply(second)
    position = world.service.execute("SELECT end_lsn::text FROM carveout.position").fetchone()
    assert (position, world.rows(world.service, "public.t")) == (("0/0",), [])


def test_an_applier_that_is_closed_leaves_nothing_half_written(world: World) -> None:
    world.both(T)
    applier = world.start("t")
    world.write("INSERT INTO t SELECT i, 'a' FROM generate_series(1, 100) AS i")
    (transaction,) = world.slot.read_packed()
    applier.apply(transaction)
    with world.service.transaction():
        world.service.execute("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
        applier.commit_ahead()
        applier.close()
    assert world.rows(world.service, "public.t") == []
    applier = world.open()
    applier.apply(transaction)
    applier.commit()
    assert len(world.same()) == 100


def test_a_server_that_breaks_off_a_commit_under_way_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream says what happened, which passes: not that its applier has ended, which stops the worker."""
    world.both(T)
    options = Options(batch_rows=1)
    applier = world.start("t", options=options)
    world.write("INSERT INTO t VALUES (1, 'a')")
    events: list[Event] = [*world.slot.read_packed()]

    def break_off(point: str) -> None:
        if point == "apply.before_commit":
            applier._conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr("cdc.apply.applier.kill_point", break_off)
    stream = Stream(
        Mock(poll=lambda _timeout_s: events.pop() if events else None), applier, context=STREAM.context,
        open_=world.pair.shared, closed=world.pair.service, options=options, signals=Signals(),
    )  # fmt: skip
    with pytest.raises(DatabaseUnreachable):
        stream.run()
