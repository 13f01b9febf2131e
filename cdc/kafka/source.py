"""The scale-out source: whole transactions from the one partition that Debezium writes a context's changes to.

The offset lives in the position row on the closed side, in the transaction that writes the rows; Kafka's own group
offsets are not used. The place in the topic is proven at each start: the record before our offset has to be the end
of a transaction that is applied. The topic is in commit order, so all that is not applied lies behind it; a topic
that was made anew or cut is refused, never skipped over.

Back-pressure: a poll hands over what is buffered before it asks for more; while nobody polls, the partition is
paused, so the client's fetcher holds no more than one fetch.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import psycopg

from cdc.events import Event
from cdc.kafka.anchor import Anchor
from cdc.kafka.decoder import Decoder, Envelopes, refusals
from cdc.kafka.decoder.envelope import Boundary, Headers, MessageEvent
from cdc.kafka.settings import HEARTBEAT_PREFIX, Encoding
from cdc.kafka.topic import Options, naming
from cdc.kafka.unpack import speed_up
from cdc.lsn import format_lsn
from cdc.state.decisions import Decision
from cdc.state.position import Position
from contexts.catalog import Table
from contexts.databases import Connection, Database
from contexts.errors import CarveoutError, DatabaseUnreachable, RefusedError, SchemaMismatch, StreamStopped
from contexts.model import TableName

log = logging.getLogger(__name__)
#: So many records behind its present end the topic has to hold the transaction that is sent again.
_SENT_AGAIN_WITHIN = 1_000
_FETCH_BYTES = 4 << 20
_PROOF_TIMEOUT_S = 30.0
_RECORDS_PER_POLL = 2_000


class TablesChanged(CarveoutError):
    """The tables were changed since they were looked at: a new source reads on with their new shape."""

    transient = True


class KafkaSource:
    """Reads one partition from the position on; implements :class:`cdc.source.base.Source`.

    :param describe: the tables and their partitions as of now, see :func:`descriptions`.
    :param encoding: from the connector's configuration, see :meth:`cdc.kafka.settings.Encoding.of`.
    :param open_side: where :meth:`request_idle` writes its message; without it the heartbeats have to do.
    :param plain_arrays: array columns (``schema.table.column``) that are known to be one-dimensional and to begin
        at 1.
    :param options: further options of kafka-python's consumer (security).
    :param watch: called while nothing arrives; raises where nothing can.
    :param decisions: records that are left out or replaced.
    :param send_again: has the connector send everything again that ended after a position; called where it was
        restarted inside a transaction; raises where that is too late.
    :param anchor: is told what is applied, and closed with the source.
    :raises RefusedError: a column would not arrive whole; names each with its fix.
    :raises StreamStopped: the topic is not the one that the position was read from, or was cut.
    :raises KafkaUnreachable: no broker answered.
    """

    def __init__(
        self, bootstrap: str, topic: str, describe: Callable[[], Mapping[TableName, Table]], encoding: Encoding,
        position: Position, *, open_side: Database | None = None, plain_arrays: Collection[str] = (),
        options: Options | None = None, watch: Callable[[], None] = lambda: None,
        decisions: Collection[Decision] = (), send_again: Callable[[int], None] | None = None,
        anchor: Anchor | None = None,
    ) -> None:  # fmt: skip
        from kafka import TopicPartition

        self._describe, self._tables = describe, describe()
        _refuse_lossy(self._tables, encoding, plain_arrays)
        self._bootstrap, self._open_side, self._watch = bootstrap, open_side, watch
        self._partition = TopicPartition(topic, 0)
        self._decoder = self._make_decoder(encoding, position)
        self._asking: Connection | None = None
        self._decisions = {decision.ordinal: decision for decision in decisions}
        self._send_again, self._anchor = send_again, anchor
        #: The end of the topic when a broken transaction was found: it may come again before it.
        self._broken_until: int | None = None
        #: The record at which the stream stopped.
        self.stopped_at: Any = None
        self._buffer: deque[Any] = deque()
        self._stopped: StreamStopped | None = None
        with naming(bootstrap):
            self._consumer: Any = open_consumer(bootstrap, options or {})
            try:
                self._consumer.assign([self._partition])
                self._start(position)
            except BaseException:
                self._consumer.close()
                raise

    def poll(self, timeout_s: float) -> Event | None:
        """The next transaction or idle event; see :class:`~cdc.source.base.Source`."""
        deadline = time.monotonic() + timeout_s
        while True:
            if event := self._decode():
                return event
            self._mend()
            rest = max(0.0, deadline - time.monotonic())
            if self._fetch(rest):
                continue
            self._watch()
            if rest == 0:
                return None

    def end(self) -> int:
        """The offset behind the last record that is there now."""
        with naming(self._bootstrap):
            return int(self._consumer.end_offsets([self._partition])[self._partition])

    @property
    def read_to(self) -> int:
        """The offset of the next record that will be read."""
        with naming(self._bootstrap):
            return int(self._buffer[0].offset if self._buffer else self._consumer.position(self._partition))

    def acknowledge(self, end_lsn: int) -> None:
        """Keep copies of the slot near it; the slot itself the connector acknowledges, once Kafka has the events."""
        if self._anchor:
            self._anchor.follow(end_lsn)

    def request_idle(self) -> None:
        """Write an empty message on the open side; it comes back as an :class:`~cdc.events.Idle`.

        In a transaction, since its commit reaches the log at once.
        """
        if self._open_side is None:
            return
        if self._asking is None or self._asking.closed:
            self._asking = self._open_side.connect("kafka-idle")
        try:
            self._asking.execute("SELECT pg_catalog.pg_logical_emit_message(true, %s, '')", [HEARTBEAT_PREFIX])
        except psycopg.OperationalError as error:
            self._asking.close()
            raise DatabaseUnreachable(f"the open side went away: {type(error).__name__}") from error

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
        if self._asking is not None:
            self._asking.close()
        if self._anchor is not None:
            self._anchor.close()

    def _make_decoder(self, encoding: Encoding, position: Position) -> Decoder:
        return Decoder(self._tables, encoding, position.end_lsn, is_continued=position.ordinal > 0)

    def _decode(self) -> Event | None:
        """The first event that the buffered records complete."""
        if self._stopped:
            raise self._stopped
        while self._buffer and not self._decoder.is_waiting:
            record = self._buffer.popleft()
            try:
                event = self._read(record)
            except StreamStopped as error:
                self._require_same_tables(error)
                self.stopped_at, self._stopped = record, self._at(error, record.offset)
                raise self._stopped from error
            if event:
                return event
        return None

    def _require_same_tables(self, error: CarveoutError) -> None:
        if isinstance(error, SchemaMismatch) and self._describe() != self._tables:
            raise TablesChanged(f"{error.message}; the closed side has been changed since") from error

    def _mend(self) -> None:
        """Where a transaction is broken and did not come again: have it sent again, or stop."""
        if not self._decoder.is_broken:
            self._broken_until = None
        elif self._broken_until is None:
            self._broken_until = self.end()
        elif self.read_to >= self._broken_until:
            try:
                if self._send_again is None:
                    raise StreamStopped("the connector was restarted inside a transaction")
                self._send_again(self._decoder.end_lsn)
            except StreamStopped as error:
                self._stopped = self._at(error, self.read_to)
                raise self._stopped from error
            self._broken_until = self.end() + _SENT_AGAIN_WITHIN

    def _read(self, record: Any) -> Event | None:
        decision = self._decisions.get(record.offset)
        if decision is None:
            return self._decoder.record(record.value, record.headers, record.offset)
        who = f"by decision of {decision.decided_by} at {decision.decided_at:%Y-%m-%d %H:%M}: {decision.reason}"
        if decision.replacement is None:
            log.warning("%s: offset %d is left out %s", self._partition.topic, record.offset, who)
            self._decoder.leave_out(record.value, record.headers)
            return None
        log.warning("%s: offset %d is replaced %s", self._partition.topic, record.offset, who)
        return self._decoder.record(decision.replacement, record.headers, record.offset)

    def _fetch(self, timeout_s: float) -> bool:
        from kafka.errors import LogTruncationError, OffsetOutOfRangeError

        with naming(self._bootstrap):
            self._consumer.resume(self._partition)
            try:
                fetched = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=_RECORDS_PER_POLL)
            except (OffsetOutOfRangeError, LogTruncationError) as error:
                self._stopped = self._cut(f"the next record is gone ({type(error).__name__})")
                raise self._stopped from error
            self._consumer.pause(self._partition)
        for records in fetched.values():
            self._buffer.extend(records)
        return bool(self._buffer)

    def _start(self, position: Position) -> None:
        """Prove that the topic is the position's, and go there."""
        if self._consumer.partitions_for_topic(self._partition.topic) != {0}:
            raise self._cut("it is not there, or has more than one partition")
        first = self._consumer.beginning_offsets([self._partition])[self._partition]
        end = self._consumer.end_offsets([self._partition])[self._partition]
        if not first <= max(0, position.ordinal - 1) <= end or position.ordinal > end:
            raise self._cut(f"it holds offsets {first} to {end}, the position is at {position.ordinal}")
        if position.ordinal:
            self._prove(position)
        self._consumer.seek(self._partition, position.ordinal)
        self._consumer.pause(self._partition)

    def _prove(self, position: Position) -> None:
        wanted = position.ordinal - 1
        if (record := record_at(self._consumer, self._partition, wanted)) is None:
            raise self._cut(f"offset {wanted} could not be read")
        lsn, xid = _end(record)
        if record.offset != wanted or lsn is None or lsn > position.end_lsn:
            raise self._cut(f"offset {wanted} ends nothing that {format_lsn(position.end_lsn)} includes")
        self._decoder.last_xid = xid

    def _cut(self, why: str) -> StreamStopped:
        return StreamStopped(
            f"topic {self._partition.topic}: {why}: it was made anew or cut, and events may be missing",
            unchanged="the position was not moved",
            next_step="start the stream anew with a new copy",
        )

    def _at(self, error: StreamStopped, offset: int) -> StreamStopped:
        """The same error, with the place of the record that it is about."""
        where = f"topic {self._partition.topic}, partition {self._partition.partition}, offset {offset}"
        step = error.next_step or "carveout stream look shows the record"
        return type(error)(f"{where}: {error.message}", unchanged=error.unchanged, next_step=step)


def descriptions(closed: Mapping[TableName, Table], opened: Mapping[TableName, Table]) -> dict[TableName, Table]:
    """What the events have to look like: the closed side's columns, with the open side's replica identity.

    The closed side's, because its revisions are written in step with the stream, while the open side may be ahead.
    """
    return {
        name: replace(table, replica_identity=opened[name].replica_identity, identity_key=opened[name].identity_key)
        for name, table in closed.items()
        if name in opened
    }


def _refuse_lossy(tables: Mapping[TableName, Table], encoding: Encoding, plain_arrays: Collection[str]) -> None:
    if found := refusals(tables.values(), encoding, plain_arrays):
        listed = "; ".join(f"{name}: {refusal.reason} ({refusal.fix})" for name, refusal in found.items())
        raise RefusedError(
            f"these would not arrive whole through Kafka: {listed}",
            unchanged="nothing was read",
            next_step="set what is named in brackets, or use the embedded source for this context",
        )


def open_consumer(bootstrap: str, options: Options) -> Any:
    """A consumer that reads what is committed, from where it is told to."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, client_id="carveout", group_id=None, enable_auto_commit=False,
        isolation_level="read_committed", auto_offset_reset="none", max_partition_fetch_bytes=_FETCH_BYTES,
        # By default a broker that comes back is not noticed for 30 s.
        reconnect_backoff_max_ms=1000, **options,
    )  # fmt: skip
    speed_up(consumer)
    return consumer


def record_at(consumer: Any, partition: Any, offset: int) -> Any:
    """The first record at or behind an offset; None where none comes. The consumer is behind it then."""
    consumer.seek(partition, offset)
    deadline = time.monotonic() + _PROOF_TIMEOUT_S
    while time.monotonic() < deadline:
        for records in consumer.poll(timeout_ms=500, max_records=1).values():
            return records[0]
    return None


def _end(record: Any) -> tuple[int | None, int | None]:
    """The LSN of a record at which a position can stand, and the transaction that it ends, if any."""
    headers: Headers = record.headers
    match Envelopes().parse(record.value, headers):
        case Boundary(is_end=True, lsn=lsn, xid=xid):
            return lsn, xid
        case MessageEvent(source=source, place=None):
            return source.lsn, None
        case _:
            return None, None
