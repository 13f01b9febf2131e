"""A process that reads one partition of a stream's rows, and decodes them.

Decoding is most of a worker's work; here it is done beside it. What the worker has not taken yet waits in a short
queue and in the pipe, and then nothing more is read: that is the back-pressure.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any

from cdc.children import end_with
from cdc.kafka.decoder.envelope import Envelopes, RowEvent, TruncateEvent
from cdc.kafka.decoder.parts import RowReader, Sent
from cdc.kafka.settings import Encoding
from cdc.kafka.source import open_consumer, record_at
from cdc.kafka.topic import Options, naming
from cdc.lsn import format_lsn
from cdc.worker.garbage import collect_rarely
from contexts.catalog import Table
from contexts.errors import CarveoutError, StreamStopped
from contexts.model import TableName

_POLL_MS = 200
_RECORDS_PER_POLL = 2_000
#: Read rows that wait for the pipe, in polls.
_AHEAD = 8


@dataclass(frozen=True)
class Job:
    """What a lane has to know."""

    bootstrap: str
    topic: str
    part: int
    #: Offset of the next record.
    start: int
    #: Everything that ended at or before this is applied.
    end_lsn: int
    tables: Mapping[TableName, Table]
    encoding: Encoding
    options: Options = field(repr=False)


@dataclass(frozen=True, slots=True)
class Read:
    """Rows, in their order, and the offset up to which there are no others."""

    rows: Sequence[Sent]
    to: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The lane cannot go on behind what it has sent."""

    error: CarveoutError


Answer = Read | Failed


def main(job: Job, pipe: Pipe, parent: int) -> None:
    """The process's whole life."""
    end_with(parent)
    collect_rarely()
    waiting: queue.Queue[Answer] = queue.Queue(_AHEAD)
    threading.Thread(target=_send, args=(waiting, pipe), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        try:
            with naming(job.bootstrap):
                _Lane(job, waiting).run()
        except CarveoutError as error:
            waiting.put(Failed(error))
        threading.Event().wait()  # the parent decides when it is over


def _send(waiting: queue.Queue[Answer], pipe: Pipe) -> None:
    try:
        while True:
            pipe.send(waiting.get())
    except OSError:
        os._exit(1)  # nobody reads any more


class _Lane:
    def __init__(self, job: Job, waiting: queue.Queue[Answer]) -> None:
        from kafka import TopicPartition

        self._job, self._waiting = job, waiting
        self._reader = RowReader(job.tables, job.encoding)
        self._partition = TopicPartition(job.topic, job.part)

    def run(self) -> None:
        from kafka.errors import LogTruncationError, OffsetOutOfRangeError

        reader = open_consumer(self._job.bootstrap, self._job.options)
        reader.assign([self._partition])
        try:
            self._prove(reader)
            told = -1
            while True:
                fetched = reader.poll(timeout_ms=_POLL_MS, max_records=_RECORDS_PER_POLL)
                records = [record for some in fetched.values() for record in some]
                to = int(reader.position(self._partition))
                if records or to != told:
                    self._take(records, to)
                    told = to
        except (OffsetOutOfRangeError, LogTruncationError) as error:
            raise self._cut(f"the next record is gone ({type(error).__name__})") from error

    def _take(self, records: Sequence[Any], to: int) -> None:
        rows: list[Sent] = []
        for record in records:
            try:
                if row := self._reader.read(record.value, record.headers, record.offset):
                    rows.append(row)
            except StreamStopped as error:
                self._waiting.put(Read(rows, record.offset))
                where = f"topic {self._job.topic}, partition {self._job.part}, offset {record.offset}"
                raise type(error)(
                    f"{where}: {error.message}", unchanged=error.unchanged, next_step=error.next_step
                ) from error
        self._waiting.put(Read(rows, to))

    def _prove(self, reader: Any) -> None:
        """Go to the start; the record before it has to be a row of a transaction that is applied."""
        if not self._job.start:
            reader.seek(self._partition, 0)
            return
        wanted = self._job.start - 1
        if (record := record_at(reader, self._partition, wanted)) is None:
            raise self._cut(f"offset {wanted} could not be read")
        if record.offset != wanted or not self._is_applied(record):
            raise self._cut(f"offset {wanted} is no row that {format_lsn(self._job.end_lsn)} includes")

    def _is_applied(self, record: Any) -> bool:
        event = Envelopes().parse(record.value, record.headers)
        lsn = event.source.lsn if isinstance(event, RowEvent | TruncateEvent) else None
        return lsn is not None and lsn < self._job.end_lsn

    def _cut(self, why: str) -> StreamStopped:
        return StreamStopped(
            f"topic {self._job.topic}, partition {self._job.part}: {why}: it was made anew or cut, and rows may be"
            " missing",
            unchanged="the position was not moved",
            next_step="start the stream anew with a new copy",
        )
