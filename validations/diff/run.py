"""Runs a diff: one barrier after the other, and under each the workers that compare segments."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import random
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import psycopg

from contexts.errors import CarveoutError
from contexts.killpoints import kill_point
from contexts.model import TableName
from validations.barrier import Barrier, Barriers
from validations.diff.model import (
    Asked,
    Difference,
    DiffOptions,
    DiffResult,
    Extent,
    Pace,
    Progress,
    Ranges,
    Segment,
    Share,
    never,
    restless,
)
from validations.diff.plan import TablePlan, Tables, compared_names, plan, row_hash, subjects
from validations.diff.ranges import RangeComparison
from validations.diff.sample import sampled
from validations.diff.scans import ScanComparison
from validations.diff.sessions import Pair, Stopped, sessions
from validations.diff.store import Seen, Store, Writer
from validations.diff.subject import Subject
from validations.parity.fingerprint import schema_fingerprint
from validations.snapshots import Rewritten

log = logging.getLogger(__name__)
_LOOK_S = 0.1  # how often should_stop and should_pause are asked


class DiffFailed(CarveoutError):
    """A server could not answer; the finished segments are kept."""

    transient = True


def diff(
    barriers: Barriers,
    tables_open: Tables,
    tables_closed: Tables,
    options: DiffOptions,
    store: Store,
    progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Asked = never,
    should_pause: Asked = never,
    *,
    pace: Pace = restless,
    names: Iterable[TableName] = (),
) -> DiffResult:
    """Compare every row of the tables on both sides and store what differs.

    Goes on with an unfinished diff of the same tables, where there is one. When it is stopped or fails, the finished
    segments are kept and the result stays unfinished. While paused it holds no snapshot.

    :param should_stop: asked between segments and every 0.1 s, from several threads but one at a time, as is
        ``should_pause``; a stop cancels running queries, a pause lets the running segments end.
    :param pace: called after each query, from several threads.
    :param names: tables that must be there; one that neither side has makes the result incomplete.
    :raises RefusedError: another verification of the context is running, or the servers cannot be compared.
    :raises DiffFailed: a query failed.
    :raises CarveoutError: no barrier was reached.
    """
    with store.lock():
        job = _Job(tables_open, tables_closed, options, store, progress, pace)
        while job.compare_at_a_barrier(barriers, names, should_stop, should_pause):
            while should_pause() and not should_stop():
                time.sleep(_LOOK_S)
            if should_stop():
                break
        else:
            kill_point("verify.before_result")
            store.finish(job.verification)
        return store.result(job.verification)


@dataclass
class _Job:
    """What is compared, and how far it is."""

    tables_open: Tables
    tables_closed: Tables
    options: DiffOptions
    store: Store
    progress: Callable[[Progress], None]
    pace: Pace
    verification: int = 0
    subjects: dict[TableName, Subject] = field(default_factory=dict)
    pending: deque[Segment] = field(default_factory=deque)
    _totals: dict[TableName, Counter[str]] = field(default_factory=dict)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def compare_at_a_barrier(
        self, barriers: Barriers, names: Iterable[TableName], should_stop: Asked, should_pause: Asked
    ) -> bool:
        """Compare what one barrier has time for; whether segments are left."""
        asked_at = dt.datetime.now(dt.UTC)  # the snapshots are younger: a proof never looks fresher than it is
        with barriers() as barrier:
            crew = _Crew(self, barrier, asked_at, should_stop, should_pause)
            if not self.verification:
                self.prepare(barrier, names)
            crew.work()
        return bool(self.pending)

    def prepare(self, barrier: Barrier, names: Iterable[TableName]) -> None:
        """Go on with an unfinished verification, or plan and store a new one."""
        with barrier.open.database.connect("diff") as ours, barrier.closed.database.connect("diff") as theirs:
            hashing, byte_order = row_hash(ours, theirs, secrets.randbits(63))
            wanted = compared_names(ours, theirs, self.tables_open, self.tables_closed)
            wanted += [n for n in dict.fromkeys(names) if n not in self.tables_open and n not in self.tables_closed]
            self.subjects, problems = subjects(self.tables_open, self.tables_closed, wanted, hashing)
            fingerprint = both_fingerprints(self.tables_open, self.tables_closed)
            found = None
            if self.options.resume and not problems and self.options.sample is None:
                found = self.store.unfinished(barrier.open_side, fingerprint, sorted(wanted))
            if found is None:
                plans = [plan(ours, subject, self.options, byte_order=byte_order) for subject in self.subjects.values()]
                plans += [TablePlan(name, None, problem) for name, problem in problems.items()]
                found = self._begin(barrier, fingerprint, plans)
        self.verification = found
        self.pending = deque(self.store.pending(found))
        for table in self.store.result(found).tables:
            self._totals[table.table] = Counter(
                segments=table.segments, done=table.segments_done, rows=table.rows_open, differences=table.differences
            )

    def _begin(self, barrier: Barrier, fingerprint: str, plans: Sequence[TablePlan]) -> int:
        if self.options.sample is None:
            return self.store.begin(barrier.open_side, fingerprint, plans)
        some = [sampled(plan, self.options.sample, random.Random()) for plan in plans]
        return self.store.begin(barrier.open_side, fingerprint, some, Extent.SAMPLE)

    def compare(self, segment: Segment, pair: Pair, barrier: Barrier, at: dt.datetime, writer: Writer) -> None:
        """Compare one segment, store its result and tell the progress."""
        with pair.reading():
            rows_open, rows_closed, differences = self._read(segment, pair)
            seen = Seen(barrier.lsn, at, rows_open, rows_closed)
            count = writer.write(segment, seen, _as_they_were(differences, pair))
        kill_point("verify.segment_done")
        with self._counting:
            total = self._totals[segment.table]
            total.update(done=1, rows=rows_open, differences=count)
            self.progress(self._progress(segment.table, total))

    def _progress(self, table: TableName, total: Counter[str]) -> Progress:
        everywhere: Counter[str] = sum(self._totals.values(), Counter())
        counted = (total["done"], total["segments"], total["rows"], total["differences"])
        return Progress(table, *counted, everywhere["done"], everywhere["segments"])

    def _read(self, segment: Segment, pair: Pair) -> tuple[int, int, Iterator[Difference]]:
        subject = self.subjects[segment.table]
        match segment.extent:
            case Ranges() as extent:
                return RangeComparison(pair, subject, self.options).segment(extent)
            case Share() as share:
                return ScanComparison(pair, subject, self.options).segment(share)


class _Crew:
    """The workers under one barrier: they leave when it is too old, at a pause and at a stop."""

    def __init__(self, job: _Job, barrier: Barrier, at: dt.datetime, should_stop: Asked, should_pause: Asked) -> None:
        self._job = job
        self._barrier = barrier
        self._should_stop = should_stop
        self._should_pause = should_pause
        self._asking = threading.Lock()
        self._at = at
        self._over = time.monotonic() + job.options.max_snapshot_age_s
        self._leave = threading.Event()
        self._stopped = False
        self._pairs: list[Pair] = []

    def work(self) -> None:
        """Compare pending segments until none is left, or until the workers have to leave."""
        count = min(self._job.options.workers, len(self._job.pending))
        if not count:
            return
        with ThreadPoolExecutor(count, thread_name_prefix="diff-worker") as pool:
            futures = [pool.submit(self._worker) for _ in range(count)]
            try:
                while wait(futures, _LOOK_S).not_done:
                    self._look()
                    if any(future.done() and future.exception() for future in futures):
                        self._stop()
            except BaseException:
                self._stop()
                raise
        for future in futures:
            future.result()

    def _look(self) -> None:
        with self._asking:
            if self._should_stop():
                self._stop()
            elif self._should_pause():
                self._leave.set()

    def _stop(self) -> None:
        self._stopped = True
        self._leave.set()
        for pair in self._pairs:
            pair.stop()

    def _worker(self) -> None:
        job = self._job
        try:
            with sessions(self._barrier, job.options, job.pace) as pair, job.store.writer(job.verification) as writer:
                self._pairs.append(pair)
                kill_point("verify.barrier_reached")
                self._segments(pair, writer)
        except Stopped:
            log.info("the diff was stopped; finished segments are kept")
        except Rewritten as error:
            log.info("%s; the next barrier is taken", error)
            self._leave.set()
        except psycopg.Error as error:
            if self._stopped and isinstance(error, psycopg.errors.QueryCanceled):
                return  # the stop met a statement between two queries
            raise DiffFailed(
                f"the diff was interrupted: {error}",
                unchanged="finished segments are kept",
                next_step="run the verification again: it goes on from there",
            ) from error

    def _segments(self, pair: Pair, writer: Writer) -> None:
        self._look()
        while not self._leave.is_set() and (segment := _next(self._job.pending)):
            self._one(segment, pair, writer)
            if time.monotonic() > self._over:
                return
            self._look()

    def _one(self, segment: Segment, pair: Pair, writer: Writer) -> None:
        try:
            self._job.compare(segment, pair, self._barrier, self._at, writer)
        except BaseException:
            self._job.pending.appendleft(segment)
            raise


def _as_they_were(differences: Iterator[Difference], pair: Pair) -> Iterator[Difference]:
    """The differences; fails at their end where the snapshots did not show what they hold."""
    yield from differences
    pair.require_as_they_were()


def both_fingerprints(tables_open: Tables, tables_closed: Tables) -> str:
    """The fingerprint that a proof of these tables is bound to."""
    both = schema_fingerprint(tables_open) + schema_fingerprint(tables_closed)
    return hashlib.sha256(both.encode()).hexdigest()


def _next(pending: deque[Segment]) -> Segment | None:
    try:
        return pending.popleft()
    except IndexError:
        return None
