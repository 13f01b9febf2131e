"""The source of a stream whose rows come in several partitions: whole transactions, as from one.

Debezium writes rows into a topic of their own, where Kafka gives each key its partition; everything else goes into the
ordered topic, which is read as that of an undivided stream is. Each partition is read and decoded by a process. What
is applied of each is stored in the position row with the rows, as is the offset in the ordered topic.

A transaction whose END was read is waited for. What is then written in each partition bounds its rows: the connector
sent them before END, and the brokers have what is read of END. Where everything up to there is read and a row is not
among it, it is lost, and the stream stops. A row that cannot be read stops it there, too: not before, so that all that
came before it is applied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from cdc.events import Event
from cdc.kafka import topic
from cdc.kafka.anchor import Anchor
from cdc.kafka.decoder.merging import MergingDecoder
from cdc.kafka.lane import Job
from cdc.kafka.lanes import Lanes
from cdc.kafka.settings import Encoding
from cdc.kafka.source import KafkaSource
from cdc.kafka.topic import Options, naming
from cdc.state.position import Position
from contexts.catalog import Table
from contexts.databases import Database
from contexts.errors import StreamStopped
from contexts.model import TableName

#: Rows of one partition that may wait for others, as long as others come.
_QUEUED = 20_000
#: Where rows do not come for so long, it is asked what there is.
_QUIET_S = 1.0
#: And where everything is read: they are lost. A broker that just took a partition over may not know yet what it has.
LOST_S = 30.0
#: How long another partition is given before the full ones are read on, too.
_OTHERS_S = 0.05


class PartedSource(KafkaSource):
    """Reads the ordered topic and the partitions of the rows from the position on.

    :param rows: the topic of the rows.
    :param count: its partitions.

    The others, and what is raised, are those of :class:`~cdc.kafka.source.KafkaSource`; no record can be left out or
    replaced here.
    """

    def __init__(
        self, bootstrap: str, name: str, rows: str, count: int, describe: Callable[[], Mapping[TableName, Table]],
        encoding: Encoding, position: Position, *, open_side: Database | None = None,
        plain_arrays: Collection[str] = (), options: Options | None = None, watch: Callable[[], None] = lambda: None,
        send_again: Callable[[int], None] | None = None, anchor: Anchor | None = None,
    ) -> None:  # fmt: skip
        self._rows, self._options = rows, options or {}
        self._starts = position.parts or (0,) * count
        self._waiting_since = 0.0
        #: How much was in the partitions when rows had not come for a while, and whether that was a long while.
        self._bounds: tuple[int, ...] | None = None
        self._asked_late = False
        self._lanes: Lanes | None = None
        super().__init__(
            bootstrap, name, describe, encoding, position, open_side=open_side, plain_arrays=plain_arrays,
            options=options, watch=watch, send_again=send_again, anchor=anchor,
        )  # fmt: skip
        jobs = [
            Job(bootstrap, rows, part, start, position.end_lsn, self._tables, encoding, self._options)
            for part, start in enumerate(self._starts)
        ]
        try:
            self._lanes = Lanes(jobs, self._merging.add)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections and end the processes; a second call does nothing."""
        if self._lanes is not None:
            self._lanes.close()
        super().close()

    def _make_decoder(self, encoding: Encoding, position: Position) -> MergingDecoder:
        self._merging = MergingDecoder(
            self._tables, encoding, position.end_lsn, is_continued=position.ordinal > 0, parts=self._starts
        )
        return self._merging

    def _decode(self) -> Event | None:
        while True:
            if not self._merging.is_waiting:
                if (event := super()._decode()) or not self._merging.is_waiting:
                    return event
                self._waiting_since, self._bounds = time.monotonic(), None
            elif event := self._assembled():
                return event
            self._look_for_rows()
            if not self._pump(0):
                return None

    def _assembled(self) -> Event | None:
        if self._stopped:
            raise self._stopped
        try:
            return self._merging.assemble()
        except StreamStopped as error:
            self._stopped = error
            raise

    def _fetch(self, timeout_s: float) -> bool:
        if not self._merging.is_waiting:
            self._pump(0)
            return super()._fetch(timeout_s)
        return self._pump(timeout_s)

    def _pump(self, timeout_s: float) -> bool:
        assert self._lanes is not None
        parts = range(len(self._starts))
        low = [part for part in parts if self._merging.queued(part) < _QUEUED]
        if low and self._lanes.pump(low, min(timeout_s, _OTHERS_S) if len(low) < len(parts) else timeout_s):
            return True
        # What is waited for may lie behind more than usually waits.
        return self._merging.is_waiting and len(low) < len(parts) and self._lanes.pump(parts, timeout_s)

    def _look_for_rows(self) -> None:
        """Stop where a row does not come that has to be there; nothing while it may still be on its way."""
        assert self._lanes is not None
        now = time.monotonic()
        if now < self._waiting_since + _QUIET_S:
            return
        is_late = now >= self._waiting_since + LOST_S
        if self._bounds is None or (is_late and not self._asked_late and self._lanes.have_read(self._bounds)):
            self._bounds, self._asked_late = self._written(), is_late
        if not self._lanes.have_read(self._bounds):
            return
        if error := self._lanes.error:
            self._require_same_tables(error)
            self._stopped = error if isinstance(error, StreamStopped) else None
            raise error
        if self._asked_late:
            self._stop(f"rows of transaction {self._merging.awaited} are in none of its partitions")

    def _written(self) -> tuple[int, ...]:
        written = topic.written(self._bootstrap, self._rows, options=self._options)
        if len(written) != len(self._starts):
            self._stop(self._counted(len(written)))
        return written

    def _counted(self, count: int) -> str:
        return f"it has {count} partitions, and had {len(self._starts)} when the stream began"

    def _stop(self, why: str) -> None:
        self._stopped = StreamStopped(
            f"topic {self._rows}: {why}: rows may be missing",
            unchanged="the position was not moved",
            next_step="start the stream anew with a new copy",
        )
        raise self._stopped

    def _start(self, position: Position) -> None:
        with naming(self._bootstrap):
            found: set[Any] = self._consumer.partitions_for_topic(self._rows) or set()
        if found != set(range(len(self._starts))):
            self._stop(self._counted(len(found)))
        super()._start(position)
