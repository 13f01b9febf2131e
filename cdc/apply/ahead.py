"""Lets one batch be written while the next one is collected: a thread of its own, one job after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Ahead:
    """Runs jobs in their order. Where one fails, those behind it never run: they would stand on what it undid.

    While jobs are under way, the connection they use is theirs.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "carveout-apply")
        self._jobs: deque[Future[None]] = deque()
        self._failed = False

    @property
    def is_busy(self) -> bool:
        """Whether jobs were started that :meth:`wait` has not waited for."""
        return bool(self._jobs)

    def start(self, job: Callable[[], None]) -> None:
        """Have ``job`` run behind those that were started before."""
        self._jobs.append(self._pool.submit(self._run, job))

    def wait(self) -> None:
        """Wait for all jobs.

        :raises BaseException: what the first that failed has raised.
        """
        while self._jobs:
            self._jobs[0].result()
            self._jobs.popleft()

    def end(self) -> None:
        """Start no further job, and return when the one under way has ended, whatever its outcome."""
        self._failed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._jobs.clear()

    def _run(self, job: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            job()
        except BaseException:
            self._failed = True
            raise
