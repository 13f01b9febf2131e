"""The parent's side of the processes: starts them, hands them tasks, and sees to their end."""

from __future__ import annotations

import contextlib
import enum
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import TracebackType

from cdc.copy import failures, worker
from cdc.copy.model import Moved
from cdc.copy.worker import Answer, Carried, Done, Failed, Job, LetGo, Ready, Task

_POLL_S = 0.2
#: A process that is asked to end and does not is killed after this time.
_GRACE_S = 1.0


class Hold(enum.Enum):
    """What a supply says when there is no task now, but may be later."""

    HOLD = "hold"


Supply = Callable[[], Task | Hold | None]


@dataclass(slots=True)
class _Child:
    process: SpawnProcess
    pipe: Pipe
    ready: bool = False
    task: Task | None = None
    carried: int = 0


class Pool:
    """Processes for one job.

    It belongs to one thread: the kernel ends the processes when the thread that started them ends.
    """

    def __init__(self, job: Job, size: int) -> None:
        self._job, self._size = job, size
        self._children: list[_Child] = []

    def __enter__(self) -> Pool:
        spawn = multiprocessing.get_context("spawn")
        try:
            for _ in range(self._size):
                ours, theirs = spawn.Pipe()
                process = spawn.Process(target=worker.main, args=(self._job, theirs, os.getpid()), daemon=True)
                self._children.append(_Child(process, ours))
                process.start()
                theirs.close()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def running(self) -> list[tuple[Task, int]]:
        """The tasks under way and the bytes that each has carried."""
        return [(child.task, child.carried) for child in self._children if child.task]

    def wait_ready(self, step: Callable[[], bool]) -> bool:
        """Wait until every process holds the snapshot; False where ``step`` said to stop."""
        while not all(child.ready for child in self._children):
            if not step():
                return False
            self._listen(lambda task, moved: None)
        return True

    def run(self, supply: Supply, on_done: Callable[[Task, Moved], None], step: Callable[[], bool]) -> bool:
        """Hand out tasks until ``supply`` has no more and all are done; False where ``step`` said to stop.

        :param step: called several times a second.
        :raises CarveoutError: a process failed or died; the other ones are ended by leaving the pool.
        """
        while step():
            more = self._hand_out(supply)
            if not more and not self.running():
                return True
            self._listen(on_done)
        return False

    def let_go(self, step: Callable[[], bool]) -> bool:
        """Have every process end its use of the snapshot, once :meth:`run` is through; False as for that."""
        for child in self._children:
            self._give(child, LetGo())
        return self.run(lambda: None, lambda task, moved: None, step)

    def _hand_out(self, supply: Supply) -> bool:
        """Give idle processes something to do; False where nothing more will come."""
        for child in self._children:
            if child.task is None:
                match supply():
                    case None:
                        return False
                    case Hold.HOLD:
                        return True
                    case task:
                        self._give(child, task)
        return True

    def _give(self, child: _Child, task: Task) -> None:
        child.task, child.carried = task, 0
        with contextlib.suppress(BrokenPipeError):  # its death is noticed by _listen
            child.pipe.send(task)

    def _listen(self, on_done: Callable[[Task, Moved], None]) -> None:
        by_pipe = {child.pipe: child for child in self._children}
        for pipe in wait(list(by_pipe), _POLL_S):
            child = by_pipe[pipe]  # type: ignore[index]
            try:
                answer: Answer = child.pipe.recv()
            except (EOFError, ConnectionResetError) as error:
                raise self._died(child) from error
            self._hear(child, answer, on_done)

    def _hear(self, child: _Child, answer: Answer, on_done: Callable[[Task, Moved], None]) -> None:
        match answer:
            case Ready():
                child.ready = True
            case Carried(count):
                child.carried = count
            case Done(moved):
                assert child.task is not None
                task, child.task = child.task, None
                on_done(task, moved)
            case Failed(error):
                raise error

    def _died(self, child: _Child) -> failures.WorkerDied:
        child.process.join(_GRACE_S)
        return failures.WorkerDied(
            f"a copy process ended with {child.process.exitcode} at {child.task or 'its start'}",
            unchanged=failures.UNCHANGED,
            next_step="nothing: the copy goes on with a new cycle",
        )

    def _end(self) -> None:
        """End all processes, first gently; what they had open is rolled back by their servers."""
        started = [child for child in self._children if child.process.pid is not None]
        for child in started:
            child.process.terminate()
        deadline = time.monotonic() + _GRACE_S
        for child in started:
            child.process.join(max(0.0, deadline - time.monotonic()))
            if child.process.is_alive():
                child.process.kill()
                child.process.join()
        for child in self._children:
            child.pipe.close()
