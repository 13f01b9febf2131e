"""Puts transactions together again whose rows came through several partitions.

One ordered partition, of a topic of its own, holds everything that is no row: BEGIN and END, messages, starts of the
connector. A transaction that ended there is given out once all its events are here, counted from 1 to the number that
END says, and all of them from one run of the connector: so no row is missing, doubled, or of another attempt. What is
behind it waits. Which rows of a restarted connector are of no use is told by exactly that: they complete nothing.

Rows of a transaction lie in each partition before those of a later one, so once it is given out, all that lies before
its last row there is done with: that is the partition's position.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from cdc.events import Change, Delete, Event, Idle, Insert, Message, Row, Transaction, Truncate, Update
from cdc.kafka.decoder.envelope import Boundary, MessageEvent, RowEvent, TruncateEvent, Undecodable
from cdc.kafka.decoder.parts import CAME, LEFT, TRUNCATED, Sent
from cdc.kafka.decoder.transactions import Decoder, is_heartbeat, log, stopped
from cdc.kafka.settings import Encoding
from contexts.catalog import Table
from contexts.model import TableName

Item = Sent | MessageEvent


@dataclass(slots=True)
class _Attempt:
    """The rows of one transaction that one run of the connector sent, by their places; with their partitions."""

    rows: dict[int, tuple[int, Sent]] = field(default_factory=dict)
    #: Two different rows came for one place.
    is_mixed: bool = False


@dataclass(slots=True)
class _Ended:
    """A transaction whose END was read, and whose rows may still be on their way."""

    end: Boundary
    ordinal: int
    messages: dict[int, MessageEvent]


class MergingDecoder(Decoder):
    """Records of the ordered partition and rows of the others in, transactions out.

    :param parts: the offset of the next record in each partition of the rows.
    """

    def __init__(
        self, tables: Mapping[TableName, Table], encoding: Encoding, end_lsn: int = 0, *, is_continued: bool = False,
        parts: Sequence[int],
    ) -> None:  # fmt: skip
        super().__init__(tables, encoding, end_lsn, is_continued=is_continued)
        self._ordered = [self._tables[name] for name in sorted(tables)]
        self._parts = list(parts)
        self._queues: list[deque[Sent]] = [deque() for _ in parts]
        self._attempts: dict[int, dict[bytes, _Attempt]] = {}
        self._messages: dict[int, MessageEvent] = {}
        self._ended: _Ended | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a transaction has ended whose rows are not all here: no record is taken before they are."""
        return self._ended is not None

    @property
    def awaited(self) -> int:
        """The xid of the transaction that is waited for, 0 for none."""
        return self._ended.end.xid if self._ended else 0

    def queued(self, part: int) -> int:
        """How many rows of a partition wait."""
        return len(self._queues[part])

    def add(self, part: int, rows: Iterable[Sent]) -> None:
        """Take the next rows of a partition."""
        queue = self._queues[part]
        for row in rows:
            queue.append(row)
            attempt = self._attempts.setdefault(row.xid, {}).setdefault(row.run, _Attempt())
            if (former := attempt.rows.get(row.order)) and former[1][1:] != row[1:]:
                attempt.is_mixed = True
            attempt.rows[row.order] = part, row

    def assemble(self) -> Event | None:
        """The transaction that has ended, if all its rows are here.

        :raises StreamStopped: they do not fit together.
        """
        if (ended := self._ended) is None:
            return None
        if len(ended.messages) == ended.end.count:
            attempt = _Attempt()
        elif (found := self._complete(ended)) is None:
            return None
        else:
            attempt = found
        rows = attempt.rows
        items = [rows[n][1] if n in rows else ended.messages[n] for n in range(1, ended.end.count + 1)]
        self._ended = None
        self._finish(attempt)
        return self._event(ended, items)

    def _complete(self, ended: _Ended) -> _Attempt | None:
        wanted = ended.end.count - len(ended.messages)
        for attempt in self._attempts.get(ended.end.xid, {}).values():
            if len(attempt.rows) != wanted or attempt.is_mixed:
                continue
            places = sorted(attempt.rows)
            lsns = [attempt.rows[n][1].lsn for n in places]
            # So many different places from 1 to the count are all of them.
            is_whole = places[0] >= 1 and places[-1] <= ended.end.count and not ended.messages.keys() & set(places)
            if is_whole and lsns == sorted(lsns):
                return attempt
        return None

    def _finish(self, attempt: _Attempt) -> None:
        """Drop what is done with in each partition, and note its position."""
        last: dict[int, int] = {}
        for part, row in attempt.rows.values():
            last[part] = max(row.offset, last.get(part, 0))
        for part, offset in last.items():
            queue = self._queues[part]
            while queue and queue[0].offset <= offset:
                self._forget(queue.popleft())
            self._parts[part] = offset + 1

    def _forget(self, row: Sent) -> None:
        attempts = self._attempts.get(row.xid)
        if attempts is None or (attempt := attempts.get(row.run)) is None:
            return
        kept = attempt.rows.get(row.order)
        if kept and kept[1] is row:
            del attempt.rows[row.order]
        if not attempt.rows:
            del attempts[row.run]
        if not attempts:
            del self._attempts[row.xid]

    def _event(self, ended: _Ended, items: list[Item]) -> Event:
        known, self._is_continued = self._is_continued, True
        first = items[0]
        if known and (first.last_commit if isinstance(first, Sent) else first.source.last_commit) is None:
            raise stopped(f"the connector began without its place before transaction {ended.end.xid}")
        self.end_lsn, parts = ended.end.lsn, tuple(self._parts)
        if all(map(is_heartbeat, items)):
            return Idle(self.end_lsn, ended.ordinal, parts)
        changes = list(self._changes(ended.end.xid, items))
        last = items[-1]
        return Transaction(
            ended.end.xid, self.end_lsn - 1, self.end_lsn,
            last.time_us if isinstance(last, Sent) else last.source.time_us,
            changes, len(changes), sum(one.size for one in items), ended.ordinal, parts, only_rows=not ended.messages,
        )  # fmt: skip

    def _changes(self, xid: int, items: Sequence[Item]) -> Iterator[Change]:
        left: Sent | None = None
        for (kind, _), group in groupby(items, _kind):
            if left and kind != CAME:
                raise stopped(f"transaction {xid}: a changed key came without its new row")
            if kind == TRUNCATED:  # its tables come one by one
                tables = [one.table for one in group if isinstance(one, Sent)]
                yield Truncate(tuple(self._ordered[table].relation for table in tables), False, False)
                continue
            for one in group:
                if isinstance(one, MessageEvent):
                    yield Message(one.prefix, one.content, one.source.lsn or 0)
                elif kind == LEFT:
                    left = one
                else:
                    yield self._change(xid, one, left)
                    left = None
        if left:
            raise stopped(f"transaction {xid}: a changed key came without its new row")

    def _change(self, xid: int, row: Sent, left: Sent | None) -> Change:
        table = self._ordered[row.table]
        match row.kind:
            case "c":
                return Insert(table.relation, _image(row.new))
            case "u":
                return Update(table.relation, _image(row.new), row.old, table.full)
            case "d":
                return Delete(table.relation, _image(row.old), table.full)
            case _:
                pass
        if row.kind != CAME or left is None or left.table != row.table:
            raise stopped(f"transaction {xid}: the two halves of a changed key do not follow each other")
        return Update(table.relation, _image(row.new), left.old, table.full)

    def _end(self, event: Boundary, ordinal: int) -> Event | None:
        assert self._ended is None, "a record came while a transaction was waited for"
        done, self._open = self._open, None
        messages, self._messages = self._messages, {}
        if event.lsn <= self.end_lsn or (done is None and event.xid == self.last_xid):
            self.last_xid = event.xid
            log.info("the end of transaction %d was sent again and is dropped", event.xid)
            return None
        if done is None or done.xid != event.xid:
            raise stopped(f"the end of transaction {event.xid} came without its beginning")
        if done.is_cut and not (messages and all(map(is_heartbeat, messages.values()))):
            self._break(done)
            return None
        if event.count < 1 or not all(1 <= n <= event.count for n in messages):
            raise stopped(f"transaction {event.xid} has {event.count} events, and others arrived")
        self._ended, self.last_xid = _Ended(event, ordinal, messages), event.xid
        return self.assemble()

    def _begin(self, event: Boundary) -> None:
        self._messages = {}
        super()._begin(event)

    def _message(self, event: MessageEvent, ordinal: int) -> Event | None:
        if event.place is None:
            idle = super()._message(event, ordinal)
            return Idle(idle.lsn, idle.ordinal, tuple(self._parts)) if isinstance(idle, Idle) else None
        if event.source.lsn is None:
            raise Undecodable("a message without a position in the log")
        if self._open is None or self._open.xid != event.place.xid:
            raise stopped(f"an event of transaction {event.source.xid} came outside of it")
        self._messages[event.place.total_order] = event
        return None

    def _row(self, event: RowEvent) -> None:
        raise _among(event.source.table)

    def _truncate(self, event: TruncateEvent) -> None:
        raise _among(event.source.table)


def _kind(one: Item) -> tuple[str, int]:
    """What is told in one breath: the tables of a TRUNCATE share its position, every other event is by itself."""
    if isinstance(one, MessageEvent):
        return "message", one.place.total_order if one.place else 0
    return one.kind, one.lsn if one.kind == TRUNCATED else one.order


def _image(row: Row | None) -> Row:
    assert row is not None
    return row


def _among(table: TableName) -> Undecodable:
    return Undecodable(f"table {table}: a row is in the topic of everything else: the connector routes otherwise")
