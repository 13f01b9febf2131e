"""The worker's side of the processes that read the partitions of the rows."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

from cdc.kafka import lane
from cdc.kafka.decoder.parts import Sent
from cdc.kafka.lane import Failed, Job, Read
from contexts.errors import CarveoutError


class LaneDied(CarveoutError):
    """A process that reads a partition ended by itself; a new source starts it again."""

    transient = True


@dataclass(slots=True)
class _Lane:
    process: SpawnProcess
    pipe: Pipe
    #: The offset up to which everything has come.
    read_to: int
    #: Why nothing comes any more.
    error: CarveoutError | None = None


class Lanes:
    """One process for each partition; they belong to the thread that starts them, and end with it.

    :param take: is given each partition's rows, in their order.
    """

    def __init__(self, jobs: Sequence[Job], take: Callable[[int, Sequence[Sent]], None]) -> None:
        self._take = take
        self._lanes: list[_Lane] = []
        spawn = multiprocessing.get_context("spawn")
        try:
            for job in jobs:
                ours, theirs = spawn.Pipe()
                process = spawn.Process(target=lane.main, args=(job, theirs, os.getpid()), daemon=True)
                process.start()
                theirs.close()
                self._lanes.append(_Lane(process, ours, job.start))
        except BaseException:
            self.close()
            raise

    @property
    def error(self) -> CarveoutError | None:
        """Why a partition is not read any further."""
        return next((one.error for one in self._lanes if one.error), None)

    def have_read(self, ends: Sequence[int]) -> bool:
        """Whether each partition was read up to its offset here, or as far as it can be read."""
        return all(one.error or one.read_to >= end for one, end in zip(self._lanes, ends, strict=True))

    def pump(self, parts: Collection[int], timeout_s: float) -> bool:
        """Take what these partitions' processes have sent; whether that was anything.

        :raises LaneDied: a process is gone.
        """
        by_pipe = {one.pipe: part for part, one in enumerate(self._lanes) if part in parts and one.error is None}
        ready = wait(list(by_pipe), timeout_s)
        for pipe in ready:
            self._hear(by_pipe[pipe])  # type: ignore[index]
        return bool(ready)

    def close(self) -> None:
        """End the processes; safe to call twice. They hold nothing that has to be given back."""
        lanes, self._lanes = self._lanes, []
        for one in lanes:
            one.process.kill()
        for one in lanes:
            one.process.join()
            one.pipe.close()

    def _hear(self, part: int) -> None:
        one = self._lanes[part]
        try:
            answer: lane.Answer = one.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            one.process.join()
            raise LaneDied(
                f"the process that reads partition {part} ended with {one.process.exitcode}",
                unchanged="the position was not moved",
                next_step="nothing: it is started again",
            ) from error
        match answer:
            case Read(rows, to):
                one.read_to = to
                self._take(part, rows)
            case Failed(failure):
                one.error = failure
