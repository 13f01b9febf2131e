"""Killed anywhere, the copy goes on from its ledger: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from cdc import copy
from cdc.copy import Coverage, ledger
from cdc.copy.pool import Pool
from cdc.copy.shape import Shape
from cdc.copy.worker import Job, Load
from cdc.state.position import Fenced
from contexts.databases import Databases
from contexts.errors import DatabaseUnreachable
from contexts.killpoints import POINTS
from contexts.model import Context, Table, TableName
from tests.copy.helpers import Control, assert_same, both, context, cycle, execute, plan, scalar, snapshot

POINTS_OF_COPY = ["copy.planned", "copy.part_loaded", "copy.part_committed", "copy.cycle_ended"]
BY_CTID, BY_KEY = TableName("public", "whole"), TableName("public", "ranges")
MOVED = context(Table(name=BY_CTID, copy_by="ctid"), Table(name=BY_KEY, copy_by="key"))
DDL = "CREATE TABLE whole (id int PRIMARY KEY, body text); CREATE TABLE ranges (id int PRIMARY KEY, body text)"
KEYS = "SELECT count(*) FROM pg_constraint WHERE contype = 'p' AND connamespace = 'public'::regnamespace"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'carveout/copy wallet'"


@pytest.fixture
def filled(pair: Databases) -> Databases:
    both(pair, DDL)
    for table in ("whole", "ranges"):
        execute(pair.shared, f"INSERT INTO {table} SELECT i, repeat('x', 300) FROM generate_series(1, 1500) i")
    return pair


def test_the_points_are_those_of_the_copy() -> None:
    others = {"copy.slot_created", "copy.indexes_built"}  # before and after it
    assert {name for name in POINTS if name.startswith("copy.")} == {*POINTS_OF_COPY} | others


@pytest.mark.parametrize(
    "point", [*POINTS_OF_COPY, "copy.part_loaded:3", "copy.part_committed:2", "copy.part_committed:3"]
)
def test_killed_at_a_point_it_goes_on(filled: Databases, point: str) -> None:
    with _running(filled, CARVEOUT_KILL_AT=point) as killed:
        assert killed.wait(60) != 0
    _write(filled)
    with _running(filled) as again:
        assert again.wait(60) == 0
    _assert_whole(filled)


def _write(pair: Databases) -> None:
    """Change rows on the open side, and on the closed one as the applier does."""
    assert copy.recover(pair.shared, pair.service, MOVED, Control())
    with pair.service.connect("test") as closed:
        covered = copy.coverage(closed, "wallet")
    for table in (BY_CTID, BY_KEY):
        change = f"UPDATE {table} SET body = 'new' WHERE id % 7 = 0; DELETE FROM {table} WHERE id % 50 = 0"
        execute(pair.shared, change)
        if covered and covered[table] is not Coverage.NONE:
            execute(pair.service, change)


def test_killed_between_the_last_part_and_the_primary_key_it_builds_the_key(filled: Databases) -> None:
    with filled.service.connect("test", autocommit=False) as lock, _running(filled) as killed:
        _wait(lambda: scalar(filled.service, "SELECT count(*) FROM carveout.copy_primary_key") == 1)
        lock.execute("SELECT FROM carveout.copy_primary_key FOR UPDATE")  # the build removes this row
        _wait(lambda: scalar(filled.service, "SELECT bool_and(done) FROM carveout.copy_part") is True)
        killed.kill()
    assert scalar(filled.service, KEYS) == 1
    assert copy.recover(filled.shared, filled.service, MOVED, Control())
    _assert_whole(filled)
    assert cycle(filled, MOVED).parts_done == 0


def test_the_processes_end_with_a_killed_parent(filled: Databases) -> None:
    with filled.service.connect("test", autocommit=False) as lock:
        lock.execute("LOCK TABLE public.ranges IN SHARE MODE")
        with _running(filled) as parent:
            _wait(lambda: scalar(filled.service, f"{SESSIONS} AND wait_event_type = 'Lock'") == 2)
            children = _children(parent.pid)
            assert len(children) >= 2
            parent.kill()
            parent.wait()
            _wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    with _running(filled) as again:
        assert again.wait(60) == 0
    _assert_whole(filled)


def test_a_killed_process_ends_the_cycle_with_its_part_named(filled: Databases) -> None:
    def kill(progress: copy.CopyProgress) -> bool:
        if progress.running:
            os.kill(_children(os.getpid(), "spawn_main")[0], signal.SIGKILL)
        return False

    with filled.service.connect("test", autocommit=False) as lock:
        lock.execute("LOCK TABLE public.whole IN SHARE MODE")
        with pytest.raises(copy.WorkerDied, match=r"ended with -9 at public\.whole part \d"):
            cycle(filled, MOVED, Control(stop=kill))
    assert cycle(filled, MOVED).finished
    _assert_whole(filled)


@contextmanager
def _orphan(pair: Databases) -> Iterator[Callable[[], None]]:
    """A process that copies a key range and waits for a lock; calling what this gives lets it go on to its end."""
    plan(pair, MOVED)
    with pair.service.connect("test") as closed, snapshot(pair.shared) as exported:
        number = ledger.fence(closed, "wallet")
        part = next(part for part in ledger.read(closed, "wallet") if part.table == BY_KEY)
        job = Job(pair.shared, pair.service, "wallet", number, exported, (BY_KEY,))
        load = [Load(part, Shape(BY_KEY, ("id", "body"), ("id",), binary=True))]
        with pair.service.connect("test", autocommit=False) as lock, Pool(job, 1) as pool:
            lock.execute("LOCK TABLE public.ranges IN SHARE MODE")
            assert pool.wait_ready(lambda: True)
            assert not pool.run(lambda: load.pop() if load else None, lambda task, moved: None, lambda: bool(load))

            def go_on() -> None:
                lock.rollback()
                pool.run(lambda: None, lambda task, moved: None, lambda: True)

            yield go_on


def test_a_leftover_process_finds_its_part_taken_away(filled: Databases) -> None:
    with _orphan(filled) as go_on:
        execute(filled.service, "UPDATE carveout.copy_part SET cycle = cycle + 1")
        with pytest.raises(Fenced, match=r"public\.ranges part 0 belongs to another cycle than 1"):
            go_on()
    assert scalar(filled.service, "SELECT count(*) FROM public.ranges") == 0


def test_a_leftover_process_that_waits_is_ended_by_the_fence(filled: Databases) -> None:
    with _orphan(filled) as go_on:
        with filled.service.connect("test") as closed:
            assert ledger.fence(closed, "wallet") == 2
        with pytest.raises(DatabaseUnreachable, match=r"service database .*public\.ranges part 0"):
            go_on()
    assert scalar(filled.service, "SELECT count(*) FROM public.ranges") == 0


def test_the_fence_waits_for_a_part_that_is_just_being_committed(filled: Databases, small_parts: None) -> None:
    first = plan(filled, MOVED)[0]
    with filled.service.connect("test", autocommit=False) as orphan, filled.service.connect("test") as closed:
        ledger.finish(orphan, "wallet", 0, first, copy.model.Moved(5, 5))
        pid = closed.info.backend_pid
        with _committing_once_waiting(filled, orphan, pid):
            ledger.fence(closed, "wallet")
        found = ledger.read(closed, "wallet")[0]
        assert (found.done, found.rows, found.cycle) == (True, 5, 0)
        assert ledger.coverage(closed, "wallet") == {BY_KEY: Coverage.PARTIAL, BY_CTID: Coverage.NONE}


@contextmanager
def _committing_once_waiting(
    pair: Databases, orphan: psycopg.Connection[tuple[object, ...]], pid: int
) -> Iterator[None]:
    def commit() -> None:
        query = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event_type = 'Lock'"
        _wait(lambda: scalar(pair.service, query) == 1)
        orphan.commit()

    thread = threading.Thread(target=commit)
    thread.start()
    yield
    thread.join()


@contextmanager
def _running(pair: Databases, moved: Context = MOVED, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.copy.runner", pair.shared.url, pair.service.url, moved.model_dump_json()]
    process = subprocess.Popen(command, env={**os.environ, **env}, cwd=Path(__file__).parents[2])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _children(pid: int, having: str = "") -> list[int]:
    """The processes below ``pid`` with ``having`` in their command line."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed if having in Path(f"/proc/{child}/cmdline").read_text()]


def _wait(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)  # nothing notifies of these


def _assert_whole(pair: Databases) -> None:
    assert_same(pair, "public.whole", "public.ranges")
    assert scalar(pair.service, KEYS) == 2
    with pair.service.connect("test") as closed:
        assert set(copy.coverage(closed, "wallet").values()) == {Coverage.FULL}
        done = copy.read_parts(closed, "wallet")
    assert all(part.done for part in done)
    assert scalar(pair.service, "SELECT count(*) FROM carveout.copy_primary_key") == 0
