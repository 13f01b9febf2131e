"""Large transactions in progress on real servers: streamed, interleaved, rolled back in part, spooled."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest
from psycopg import conninfo

from cdc.events import Change, Idle, Insert, Transaction
from cdc.source.slots import slot_status
from cdc.state.position import Position
from contexts.databases import Connection, Database
from tests.source.upstream import PUBLICATION, Upstream, idle_at, next_event, until_mark
from tests.waiting import wait_until

PAD = "repeat('x', 100)"


@pytest.fixture
def streaming(upstream: Upstream) -> Upstream:
    """An upstream whose server streams every transaction that is not tiny."""
    url = conninfo.make_conninfo(upstream.database.url, options="-c logical_decoding_work_mem=64kB")
    upstream.database = Database(upstream.database.side, url)
    upstream.run("CREATE TABLE public.t (id int PRIMARY KEY, pad text)")
    return upstream


@pytest.fixture
def second(streaming: Upstream) -> Iterator[Connection]:
    with streaming.database.connect("second") as conn:
        yield conn


def inserted(changes: list[Change]) -> list[int]:
    return [int(c.new[0]) for c in changes if isinstance(c, Insert) and isinstance(c.new[0], bytes)]


def streamed_count(upstream: Upstream) -> int:
    found: int = upstream.value(
        f"SELECT coalesce(max(stream_txns), 0) FROM pg_stat_replication_slots WHERE slot_name = '{upstream.slot}'"
    )
    return found


def fill(first: int, last: int) -> str:
    return f"INSERT INTO public.t SELECT n, {PAD} FROM generate_series({first}, {last}) n"


@pytest.mark.parametrize("memory_bytes", [100_000_000, 10_000], ids=["memory", "spool"])
def test_rolled_back_savepoints_of_a_large_transaction(streaming: Upstream, memory_bytes: int) -> None:
    start = streaming.publish("t")
    streaming.run(
        "BEGIN", fill(1, 2000),
        "SAVEPOINT a", fill(2001, 4000), "SAVEPOINT b", fill(4001, 5000), "ROLLBACK TO b", fill(5001, 6000),
        "ROLLBACK TO a", fill(6001, 8000),
        "SAVEPOINT c", "ALTER TABLE public.t ADD more int", "INSERT INTO public.t VALUES (0, 'y', 1)",
        fill(8001, 9000), "ROLLBACK TO c",
        "SAVEPOINT d", fill(9001, 9500), "RELEASE d", "DELETE FROM public.t WHERE id <= 10",
        "SELECT pg_logical_emit_message(true, 'p', 'kept')", "COMMIT",
        "INSERT INTO public.t VALUES (-1, 'after')",
    )  # fmt: skip
    streaming.mark()
    with streaming.open(start, memory_bytes=memory_bytes) as source:
        (large, changes), (_, after) = until_mark(source)
    wait_until(lambda: streamed_count(streaming) >= 1)  # statistics come later
    assert inserted(changes) == [*range(1, 2001), *range(6001, 8001), *range(9001, 9501)]
    assert len(changes) == 4500 + 10 + 1
    assert large.size == len(changes)
    assert inserted(after) == [-1]
    assert streaming.value("SELECT count(*) FROM public.t") == 4500 - 10 + 1


def test_interleaved_large_transactions(streaming: Upstream, second: Connection) -> None:
    start = streaming.publish("t")
    connect = streaming.database.connect
    with streaming.open(start, memory_bytes=10_000) as source, connect("third") as third, connect("stats") as stats:
        third.execute("BEGIN")
        streaming.run("BEGIN")
        second.execute("BEGIN")
        for n in range(3):
            for conn, offset in ((streaming.conn, 0), (second, 100_000), (third, 200_000)):
                conn.execute(fill(offset + n * 1000, offset + n * 1000 + 999).encode())
        wait_until(lambda: streamed_count_by(stats, streaming.slot) >= 3)
        third.execute("ROLLBACK")
        second.execute("COMMIT")
        third.execute("INSERT INTO public.t VALUES (-1, 'small')")
        streaming.run("COMMIT")
        streaming.mark()
        found = [inserted(changes) for _, changes in until_mark(source)]
    assert found == [[*range(100_000, 103_000)], [-1], [*range(3000)]]


def streamed_count_by(conn: Connection, slot: str) -> int:
    row = conn.execute("SELECT stream_txns FROM pg_stat_replication_slots WHERE slot_name = %s", (slot,)).fetchone()
    return row[0] if row else 0


def test_idle_may_pass_a_transaction_in_progress_and_all_of_it_still_comes(
    streaming: Upstream, second: Connection
) -> None:
    start = streaming.publish("t")
    second.execute("BEGIN")
    second.execute(fill(1, 3000).encode())
    with streaming.open(start) as source:
        wait_until(lambda: streamed_count(streaming) >= 1)
        streaming.run("INSERT INTO public.t VALUES (-1, 'small')")
        small = next_event(source, lambda event: isinstance(event, Transaction))
        assert isinstance(small, Transaction)
        idle = idle_at(source, small.end_lsn)
        source.acknowledge(idle.lsn)
        wait_until(lambda: streaming.confirmed() >= idle.lsn)
        if streaming.conn.info.server_version >= 160000:  # lets the server move restart_lsn as far as it can
            streaming.run("SELECT pg_log_standby_snapshot()")
        streaming.run("CHECKPOINT")
        later = idle_at(source, streaming.flushed_lsn() - 8)
        source.acknowledge(later.lsn)
        wait_until(lambda: streaming.confirmed() >= later.lsn)
    second.execute(fill(3001, 4000).encode())
    second.execute("COMMIT")
    assert inserted(streaming.changes(replace(start, end_lsn=later.lsn))) == [*range(1, 4001)]


def test_a_large_transaction_needs_little_memory(streaming: Upstream) -> None:
    start = streaming.publish("t")
    streaming.run(fill(1, 60_000))
    streaming.mark()
    tracemalloc.start()
    try:
        with streaming.open(start, memory_bytes=500_000, queue_bytes=500_000) as source:
            large = next_event(source, lambda event: isinstance(event, Transaction))
            assert isinstance(large, Transaction)
            assert sum(1 for _ in large.changes) == 60_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert large.bytes > 7_000_000
    assert peak < 3_000_000


KILLED = """
import sys
from pathlib import Path
from cdc.source.embedded import EmbeddedSource
from cdc.state.position import Position
from contexts.databases import Database
from contexts.model import Side

url, folder, publication, system, timeline, slot, lsn = sys.argv[1:]
position = Position(system, int(timeline), slot, int(lsn))
source = EmbeddedSource(
    Database(Side.SHARED, url), publication, position, spool_dir=Path(folder), memory_bytes=10_000
)
event = source.poll(30)
assert event is not None, "nothing came"
print(sum(1 for _ in event.changes))
source.close()
"""


def run_reader(upstream: Upstream, position: Position, **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = [
        upstream.database.url, str(upstream.spool), PUBLICATION, position.system_identifier,
        str(position.timeline), position.slot, str(position.end_lsn),
    ]  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_killed_with_a_full_spool_nothing_is_left_and_all_comes_again(streaming: Upstream) -> None:
    start = streaming.publish("t")
    streaming.run(fill(1, 3000))
    killed = run_reader(streaming, start, CARVEOUT_KILL_AT="apply.spooled")
    assert killed.returncode == -9, killed.stderr
    assert list(streaming.spool.iterdir()) == []
    wait_until(lambda: not slot_status(streaming.conn, streaming.slot).active)
    assert inserted(streaming.changes(start)) == [*range(1, 3001)]


def test_the_pure_python_psycopg_streams_too(streaming: Upstream) -> None:
    start = streaming.publish("t")
    streaming.run(fill(1, 3000))
    done = run_reader(streaming, start, PSYCOPG_IMPL="python")
    if "no pq wrapper available" in done.stderr:
        pytest.skip("no libpq on this machine")
    assert (done.returncode, done.stdout) == (0, "3000\n"), done.stderr


def test_idle_events_never_pass_a_transaction(streaming: Upstream, second: Connection) -> None:
    start = streaming.publish("t")
    with streaming.open(start, memory_bytes=10_000, queue_bytes=20_000) as source:
        for n in range(20):
            second.execute(fill(n * 400, n * 400 + (399 if n % 3 else 9)).encode())
            source.request_idle()
        streaming.mark()
        complete, found = 0, 0
        while True:
            event = next_event(source)
            if isinstance(event, Idle):
                complete = max(complete, event.lsn)
                continue
            assert event.commit_lsn >= complete
            count = len(inserted(list(event.changes)))
            if count == 0:
                break
            found += count
        assert found == streaming.value("SELECT count(*) FROM public.t")
