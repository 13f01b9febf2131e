"""Barriers, going on after a kill, stopping, pausing, and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from contexts.databases import Databases
from contexts.errors import CarveoutError, RefusedError
from contexts.model import Side
from tests.validations.killed import OPTIONS
from tests.validations.support import Sides
from validations.barrier import Barrier
from validations.diff.model import DiffOptions, Kind, Progress, Verdict
from validations.diff.run import diff
from validations.diff.sessions import Pair
from validations.snapshots import SnapshotGone

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sides(pair: Databases) -> Sides:
    """1200 rows in 6 segments; three rows differ, in the first, the third and the last of them."""
    made = Sides(pair, options=OPTIONS)
    made.both("CREATE TABLE t (k int PRIMARY KEY, n int)", "INSERT INTO t SELECT i, i FROM generate_series(1, 1200) i")
    made.both("ANALYZE t")
    made.on(Side.SERVICE, "UPDATE t SET n = -n WHERE k IN (1, 500, 1200)")
    return made


KEYS = [("1",), ("1200",), ("500",)]


@pytest.mark.parametrize(
    ("point", "segments_done"),
    [
        ("verify.barrier_reached", 0),
        ("verify.segment_done", 1),
        ("verify.segment_done:2", 2),
        ("verify.segment_done:6", 6),
        ("verify.before_result", 6),
    ],
)
def test_a_killed_diff_goes_on(sides: Sides, point: str, segments_done: int) -> None:
    assert _run_killed(sides, point).returncode == -signal.SIGKILL
    unfinished = sides.store.latest()
    assert unfinished is not None
    assert unfinished.finished_at is None
    assert unfinished.tables[0].segments_done == segments_done
    assert unfinished.tables[0].differences == len(sides.found(unfinished))
    told: list[Progress] = []
    result = sides.diff(progress=told.append)
    assert (result.verification, result.verdict) == (unfinished.verification, Verdict.DIFFERENT)
    assert len(told) == 6 - segments_done
    assert [d.key for d in sides.found(result)] == KEYS
    assert result.rows == 1200
    again = sides.diff()
    assert again.verification > result.verification


def _run_killed(sides: Sides, point: str) -> subprocess.CompletedProcess[str]:
    urls = [sides.databases[side].url for side in Side]
    return subprocess.run(
        [sys.executable, "-m", "tests.validations.killed", *urls],
        cwd=ROOT, env={**os.environ, "CARVEOUT_KILL_AT": point}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_changed_schema_begins_anew(sides: Sides) -> None:
    stopped = sides.diff(should_stop=lambda: True)
    assert (stopped.verdict, stopped.finished_at) == (Verdict.INCOMPLETE, None)
    sides.both("ALTER TABLE t ALTER n TYPE int8")
    result = sides.diff()
    assert result.verification > stopped.verification
    superseded = sides.store.result(stopped.verification)
    assert superseded.finished_at is not None
    assert superseded.verdict is Verdict.INCOMPLETE


def test_a_stop_keeps_the_finished_segments(sides: Sides) -> None:
    told: list[Progress] = []
    stopped = sides.diff(progress=told.append, should_stop=lambda: len(told) >= 2)
    assert stopped.finished_at is None
    assert stopped.tables[0].segments_done == len(told) >= 2
    assert sides.diff().verification == stopped.verification


def test_a_stop_ends_a_running_query(sides: Sides) -> None:
    # The segment's query waits for this lock until it is cancelled.
    tables = sides.read(Side.SHARED), sides.read(Side.SERVICE)
    with sides.databases.service.connect("test", autocommit=False) as locker:
        locker.execute("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
        waiting = threading.Event()

        def stop() -> bool:
            query = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'public.t'::regclass"
            if locker.execute(query).fetchall():
                waiting.set()
            return waiting.is_set()

        one_segment = replace(OPTIONS, ranges_per_segment=64)
        result = diff(sides.barriers, *tables, one_segment, sides.store, should_stop=stop)
    assert waiting.is_set()
    assert (result.verdict, result.finished_at) == (Verdict.INCOMPLETE, None)
    assert (result.tables[0].segments_done, result.tables[0].segments) == (0, 1)


def test_a_stop_that_meets_a_statement_between_two_queries(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    # They are too short for a test to stop in: the first one takes its time here.
    begun = threading.Event()

    def slow(pair: Pair, _allowed: bool) -> None:
        begun.set()
        pair.open.execute("SELECT pg_sleep(60)")

    monkeypatch.setattr(Pair, "seqscan", slow)
    result = sides.diff(should_stop=begun.is_set)
    assert (result.verdict, result.finished_at, result.tables[0].segments_done) == (Verdict.INCOMPLETE, None, 0)


def test_an_old_snapshot_is_given_up_for_a_new_barrier(sides: Sides) -> None:
    result = sides.diff(options=replace(OPTIONS, max_snapshot_age_s=0.0))
    assert sides.barriers.made == 6  # one segment is compared under each barrier at least
    assert (result.lsn_first, result.lsn_last) == (1, 6)
    assert [d.key for d in sides.found(result)] == KEYS


def test_a_pause_holds_no_snapshot(sides: Sides) -> None:
    told: list[Progress] = []
    sessions: list[int] = []

    def pause() -> bool:
        if not told or 0 in sessions:
            return False
        with sides.databases.shared.connect("test") as conn:
            held = (
                "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('carveout/diff', 'carveout/barrier')"
            )
            sessions.append(conn.execute(held).fetchall()[0][0])
        return True

    result = sides.diff(options=replace(OPTIONS, max_snapshot_age_s=0.0), progress=told.append, should_pause=pause)
    assert 0 in sessions
    assert result.verdict is Verdict.DIFFERENT
    assert sum(p.segments_done == 6 for p in told) == 1


def test_a_barrier_that_is_not_reached(sides: Sides) -> None:
    def failing() -> AbstractContextManager[Barrier]:
        if sides.barriers.made:
            raise CarveoutError("no barrier")
        return sides.barriers()

    opened, closed = sides.read(Side.SHARED), sides.read(Side.SERVICE)
    with pytest.raises(CarveoutError, match="no barrier"):
        diff(failing, opened, closed, replace(OPTIONS, max_snapshot_age_s=0.0), sides.store)
    assert sides.diff().tables[0].segments_done == 6


def test_a_snapshot_that_is_gone(sides: Sides) -> None:
    with sides.barriers() as barrier:
        pass

    def over() -> AbstractContextManager[Barrier]:
        return nullcontext(barrier)

    with pytest.raises(SnapshotGone, match="cannot be imported"):
        diff(over, sides.read(Side.SHARED), sides.read(Side.SERVICE), OPTIONS, sides.store)


def test_a_second_verification_is_kept_out(sides: Sides) -> None:
    with sides.store.lock(), pytest.raises(RefusedError, match="another verification is running"):
        sides.diff()


def test_several_workers_find_the_same(sides: Sides) -> None:
    result = sides.diff(options=replace(OPTIONS, workers=3, parallel_workers=2))
    assert [d.key for d in sides.found(result)] == KEYS
    assert result.rows == 1200


def test_a_failing_query_keeps_finished_segments(sides: Sides) -> None:
    told: list[Progress] = []

    def kill_sessions(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 2:
            with psycopg.connect(sides.databases.shared.url, autocommit=True) as conn:
                conn.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE application_name = 'carveout/diff' AND datname = current_database()"
                )

    with pytest.raises(CarveoutError, match="interrupted"):
        sides.diff(progress=kill_sessions)
    result = sides.diff()
    assert [d.key for d in sides.found(result)] == KEYS
    assert len(told) == 2


def test_writes_after_the_barrier_are_not_seen(sides: Sides) -> None:
    sides.on(Side.SERVICE, "UPDATE t SET n = k")

    def change(_: Progress) -> None:
        sides.on(Side.SERVICE, "UPDATE t SET n = n + 1 WHERE k = 1100", "DELETE FROM t WHERE k = 1150")

    assert sides.diff(progress=change).verdict is Verdict.EQUAL
    assert [d.key for d in sides.found(sides.diff())] == [("1100",), ("1150",)]


@pytest.fixture
def many(pair: Databases) -> Sides:
    return Sides(pair, options=DiffOptions())


@pytest.mark.parametrize(("key", "count"), [("int8", 100_000), ("char(12)", 30_000), (None, 30_000)])
def test_memory_is_bounded_where_every_row_differs(many: Sides, key: str | None, count: int) -> None:
    column = f"k {key} PRIMARY KEY" if key else "k int8"
    many.both(f"CREATE TABLE t ({column}, n int)", f"INSERT INTO t SELECT i, i FROM generate_series(1, {count}) i")
    many.both("ANALYZE t")
    many.on(Side.SERVICE, "UPDATE t SET n = n + 1")
    tracemalloc.start()
    try:
        result = many.diff(options=DiffOptions(workers=1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    found = result.tables[0]
    assert (found.different, found.missing_on_closed, found.missing_on_open) == (
        (count, 0, 0) if key else (0, count, count)
    )
    kinds = Counter(d.kind for _, d in many.store.differences(result.verification))
    assert kinds == ({Kind.DIFFERENT: count} if key else {Kind.MISSING_ON_CLOSED: count, Kind.MISSING_ON_OPEN: count})
    assert peak < 15_000_000
