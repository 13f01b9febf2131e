"""A large transaction of a backlog is taken while it is received: in order, bounded, and never cut short."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from cdc.events import Change, Insert, Message, Transaction
from cdc.source import start as starting
from cdc.source.arriving import Arriving
from cdc.source.assembler import Assembler
from cdc.source.slots import slot_status
from contexts.errors import CarveoutError, StreamStopped
from tests.source import wire
from tests.source.test_assembler import feed, ids, rows
from tests.source.test_streaming import PAD, inserted
from tests.source.upstream import Upstream, next_event
from tests.waiting import wait_until

LIMIT = 50_000
COUNT = 20_000


def begun(one: Assembler, count: int = COUNT) -> Transaction:
    """A transaction that is handed out before its commit has come."""
    (early,) = feed(one, wire.begin(100, 5, 700), wire.relation(), *rows(range(count)))
    return early


def test_it_is_handed_out_at_a_part_of_the_memory_and_ends_with_its_commit(tmp_path: Path) -> None:
    one = Assembler(tmp_path, LIMIT, 0)
    early = begun(one)
    assert one.memory == 0
    assert early.await_whole is not None
    assert (early.xid, early.commit_lsn, early.commit_time_us) == (700, 100, wire.PG_EPOCH_US + 5)
    assert early.end_lsn == 0
    assert early.size < COUNT
    assert one.idle(10**6) is None  # it is not applied yet
    assert feed(one, wire.message("p", b"late"), wire.commit(100, 150)) == []
    assert ids(early) == [*(str(n).encode() for n in range(COUNT)), b"late"]
    assert (early.end_lsn, early.size) == (150, COUNT + 1)
    assert list(tmp_path.iterdir()) == []
    assert [t.end_lsn for t in feed(one, wire.begin(200), *rows([1]), wire.commit(200, 250))] == [250]


def test_who_needs_it_whole_gets_it_whole(tmp_path: Path) -> None:
    one = Assembler(tmp_path, LIMIT, 0)
    early = begun(one)
    feed(one, wire.commit(100, 150))
    assert early.await_whole is not None
    early.await_whole()
    assert (early.end_lsn, early.size) == (150, COUNT)
    assert len(ids(early)) == COUNT


def test_one_that_begins_with_a_message_is_waited_for(tmp_path: Path) -> None:
    """What it says may decide whether its changes are to be applied at all."""
    one = Assembler(tmp_path, LIMIT, 0)
    made = feed(one, wire.begin(), wire.message("p", b"m"), wire.relation(), *rows(range(COUNT)), wire.commit(100, 150))
    (whole,) = made
    assert whole.await_whole is None
    assert whole.packed is None
    assert whole.size == COUNT + 1


def test_one_that_committed_before_the_floor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StreamStopped, match="was said to be complete"):
        begun(Assembler(tmp_path, LIMIT, 101))


def test_it_asks_for_a_pause_when_too_much_waits(tmp_path: Path) -> None:
    one = Assembler(tmp_path, LIMIT, 0)
    paused = []
    one.pace = lambda await_room: paused.append(await_room(0))
    early = begun(one)
    assert paused
    assert set(paused) == {False}
    feed(one, wire.commit(100, 150))
    assert len(ids(early)) == COUNT


def test_what_fails_on_the_way_never_ends_as_if_it_were_whole(tmp_path: Path) -> None:
    one = Assembler(tmp_path, LIMIT, 0)
    early = begun(one)
    one.fail(ConnectionError("broken"))
    with pytest.raises(ConnectionError, match="broken"):
        ids(early)


def test_a_commit_that_is_refused_leaves_nobody_waiting(tmp_path: Path) -> None:
    one = Assembler(tmp_path, LIMIT, 50)
    early = begun(one)
    with pytest.raises(StreamStopped, match="was said to be complete") as refused:
        feed(one, wire.commit(40, 150))
    one.fail(refused.value)
    with pytest.raises(StreamStopped, match="was said to be complete"):
        ids(early)


def test_a_failure_after_the_end_changes_nothing() -> None:
    whole = Arriving(10)
    whole.add(b"x")
    whole.end()
    whole.fail(ConnectionError("too late"))
    assert list(whole.records()) == [b"x"]


@pytest.fixture
def backlog(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """An upstream that is always far behind."""
    monkeypatch.setattr(starting, "_FAR_BYTES", -(1 << 62))
    upstream.run("CREATE TABLE public.t (id int PRIMARY KEY, pad text)")
    return upstream


def fill(upstream: Upstream, count: int) -> None:
    upstream.run(
        "BEGIN", f"INSERT INTO public.t SELECT n, {PAD} FROM generate_series(1, {count}) n",
        "SAVEPOINT a", "INSERT INTO public.t VALUES (-5, 'x')", "ROLLBACK TO a",
        "ALTER TABLE public.t ADD more int", "INSERT INTO public.t VALUES (0, 'y', 1)",
        "SELECT pg_logical_emit_message(true, 'p', 'kept')", "COMMIT",
        "INSERT INTO public.t VALUES (-1, 'after')",
    )  # fmt: skip


SHOWN = [[b"9"], [b"0", b"1"], b"kept"]


def shown_of(change: Change) -> object:
    """Without what pads it."""
    return change.new[::2] if isinstance(change, Insert) else change.content if isinstance(change, Message) else None


def test_from_a_server_with_little_memory(backlog: Upstream) -> None:
    start = backlog.publish("t")
    fill(backlog, 60_000)
    tracemalloc.start()
    try:
        with backlog.open(start, memory_bytes=500_000, queue_bytes=500_000) as source:
            large = next_event(source, lambda event: isinstance(event, Transaction))
            assert isinstance(large, Transaction)
            assert large.end_lsn == 0
            found = [shown for change in large.changes if (shown := shown_of(change)) in SHOWN]
            after = next_event(source, lambda event: isinstance(event, Transaction))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == SHOWN
    assert large.size == 60_002
    assert isinstance(after, Transaction)
    assert large.commit_lsn < large.end_lsn <= after.commit_lsn
    assert inserted(list(after.changes)) == [-1]
    assert not backlog.spool.exists()
    assert peak < 3_000_000


@pytest.mark.parametrize("how", ["server", "close"])
def test_broken_off_in_the_middle_it_comes_again_from_its_first_change(backlog: Upstream, how: str) -> None:
    start = backlog.publish("t")
    fill(backlog, 60_000)
    with backlog.open(start, memory_bytes=100_000, queue_bytes=100_000) as source:
        large = next_event(source, lambda event: isinstance(event, Transaction))
        assert isinstance(large, Transaction)
        changes = iter(large.changes)
        next(changes)
        if how == "close":
            source.close()
        else:
            backlog.run(
                f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{backlog.slot}'"
            )
        with pytest.raises(CarveoutError):
            for _ in changes:
                pass
        assert large.end_lsn == 0
    wait_until(lambda: backlog.value(f"SELECT NOT active FROM pg_replication_slots WHERE slot_name = '{backlog.slot}'"))
    again = backlog.changes(start, memory_bytes=100_000)
    assert inserted(again) == [*range(1, 60_001), 0, -1]


def test_the_server_is_answered_while_nobody_takes_the_rest(
    upstream16: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever applies may need minutes for what it has, and receives no more of the transaction meanwhile."""
    monkeypatch.setattr(starting, "_FAR_BYTES", -(1 << 62))
    upstream16.run("CREATE TABLE public.t (id int PRIMARY KEY, pad text)")
    upstream16.run("ALTER DATABASE " + upstream16.value("SELECT current_database()") + " SET wal_sender_timeout = '2s'")
    start = upstream16.publish("t")
    fill(upstream16, 60_000)
    with upstream16.open(start, memory_bytes=100_000, queue_bytes=100_000) as source:
        large = next_event(source, lambda event: isinstance(event, Transaction))
        assert isinstance(large, Transaction)
        changes = iter(large.changes)
        next(changes)
        pid = slot_status(upstream16.conn, upstream16.slot).active_pid
        old = f"SELECT clock_timestamp() - backend_start > '5s' FROM pg_stat_activity WHERE pid = {pid}"
        wait_until(lambda: upstream16.value(old))
        assert sum(1 for _ in changes) == large.size - 1 == 60_001
        assert upstream16.confirmed() <= start.end_lsn
        assert slot_status(upstream16.conn, upstream16.slot).active_pid == pid
