"""Two sessions, one per side, that answer the same question at the same moment."""

from __future__ import annotations

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
from validations.diff.model import DiffOptions
from validations.diff.subject import Subject
from validations.snapshots import imported, require_as_they_were

Rows = list[tuple[Any, ...]]
Query = tuple[sql.Composed, dict[str, Any]]
_T = TypeVar("_T")


class Stopped(Exception):
    """The pair was told to stop."""


class Pair:
    """An open and a closed session; both are asked at once, from two threads."""

    def __init__(self, open_session: Connection, closed_session: Connection) -> None:
        self.open = open_session
        self.closed = closed_session
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
            self._cancel()
            wait(futures)  # no thread may use a session that its owner closes
            if self._stopped and isinstance(error, psycopg.errors.QueryCanceled):
                raise Stopped from error
            raise

    def ask(self, subject: Subject, query: Callable[[Table], Query]) -> tuple[Rows, Rows]:
        """The rows of one query, composed for each side's table."""
        return self.both(
            lambda: self.open.execute(*query(subject.open)).fetchall(),
            lambda: self.closed.execute(*query(subject.closed)).fetchall(),
        )

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


@contextmanager
def sessions(barrier: Barrier, options: DiffOptions) -> Iterator[Pair]:
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
        Pair(open_session, closed_session) as pair,
    ):
        yield pair
