"""Two sessions, one per side, that answer the same question at the same moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from contexts.catalog import Table
from contexts.databases import Connection
from validations.barrier import Barrier
from validations.diff.model import DiffOptions, Pace, restless
from validations.diff.subject import Subject
from validations.snapshots import imported, require_as_they_were

Rows = list[tuple[Any, ...]]
Query = tuple[sql.Composed, dict[str, Any]]
_T = TypeVar("_T")


class Stopped(Exception):
    """The pair was told to stop."""


class TimeOver(Exception):
    """A deadline has passed."""


class Pair:
    """An open and a closed session; both are asked at once, from two threads."""

    def __init__(self, open_session: Connection, closed_session: Connection, pace: Pace = restless) -> None:
        self.open = open_session
        self.closed = closed_session
        self._pace = pace
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="diff")
        self._stopped = False

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self._threads.shutdown()

    def both(self, on_open: Callable[[], _T], on_closed: Callable[[], _T]) -> tuple[_T, _T]:
        """Run two functions at the same time; where one fails, the other's query is cancelled.

        :raises Stopped: by :meth:`stop`.
        """
        if self._stopped:
            raise Stopped
        futures = [self._threads.submit(on_open), self._threads.submit(on_closed)]
        try:
            return futures[0].result(), futures[1].result()
        except BaseException as error:
            if not isinstance(error, TimeOver):  # with a deadline, the other query ends by itself
                self._cancel()
            wait(futures)  # no thread may use a session that its owner closes
            if self._stopped and isinstance(error, psycopg.errors.QueryCanceled):
                raise Stopped from error
            raise

    def ask(
        self, subject: Subject, query: Callable[[Table], Query], *, deadline: float | None = None
    ) -> tuple[Rows, Rows]:
        """The rows of one query, composed for each side's table; then a rest.

        :param deadline: on the monotonic clock; both servers end the query then.
        :raises TimeOver: the deadline has passed; both transactions may be aborted.
        """
        began = time.monotonic()
        try:
            found = self.both(
                lambda: _rows(self.open, query(subject.open), deadline),
                lambda: _rows(self.closed, query(subject.closed), deadline),
            )
        except psycopg.errors.QueryCanceled as error:
            if deadline is None:
                raise
            raise TimeOver from error
        self._pace(time.monotonic() - began)
        return found

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Locks of what is read in the block end with it: whoever alters or truncates a table waits no longer."""
        with self.open.transaction(force_rollback=True), self.closed.transaction(force_rollback=True):
            yield

    def require_as_they_were(self) -> None:
        """Call it at the end of :meth:`reading`, before anything is made of what was read.

        :raises Rewritten: a table was truncated or rewritten after the snapshots.
        """
        self.both(lambda: require_as_they_were(self.open), lambda: require_as_they_were(self.closed))

    def seqscan(self, allowed: bool) -> None:
        """Whether the planner may scan whole tables: never for a key range, always for a whole table."""
        for session in (self.open, self.closed):
            session.execute("SELECT set_config('enable_seqscan', %s, true)", ("on" if allowed else "off",))

    def stop(self) -> None:
        """End the running queries and answer no more; safe from any thread."""
        self._stopped = True
        self._cancel()

    def _cancel(self) -> None:
        for session in (self.open, self.closed):
            with suppress(psycopg.Error):
                session.cancel_safe()


def limit(session: Connection, deadline: float) -> None:
    """Let the server end every statement of the open transaction at the deadline, counted from now.

    :raises TimeOver: it has passed.
    """
    left_ms = int((deadline - time.monotonic()) * 1000)
    if left_ms <= 0:
        raise TimeOver
    session.execute("SELECT set_config('statement_timeout', %s, true)", (str(left_ms),))


def _rows(session: Connection, query: Query, deadline: float | None) -> Rows:
    if deadline is not None:
        limit(session, deadline)
    return session.execute(*query).fetchall()


@contextmanager
def sessions(barrier: Barrier, options: DiffOptions, pace: Pace = restless) -> Iterator[Pair]:
    """A pair that sees the barrier's snapshots.

    :raises SnapshotGone: the barrier is over.
    """
    settings = {
        "jit": "off",  # compiling hundreds of short statements costs more than it saves
        "max_parallel_workers_per_gather": str(options.parallel_workers),
    }
    with (
        imported(barrier.open, "diff", **settings) as open_session,
        imported(barrier.closed, "diff", **settings) as closed_session,
        Pair(open_session, closed_session, pace) as pair,
    ):
        yield pair
