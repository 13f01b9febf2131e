"""Puts transactions together again from one ordered partition.

With ``provide.transaction.metadata`` every transaction stands between BEGIN and END. END's id ends in the end of the
commit record, which is the transaction's ``end_lsn``; the start of the commit record is not sent, so ``commit_lsn``
is the last byte of the record: for every L that is the boundary of a record, ``commit_lsn < L`` says the same.

Debezium may send a transaction again after a crash; its ``end_lsn`` then is not beyond the last one's, and it is
dropped whole. A connector that was restarted *inside* a transaction may have left out rows (rows of one COPY or
multi-row INSERT share an LSN, and it goes on after that LSN), in a way that its own counts do not show. It is told by
the run that its events name, and by the notification that the connector sends when it starts, which alone stands
between the last rows and an END that came later. Such a
transaction is given out only once it has come again from its beginning, which the positions of its events prove;
until then :attr:`Decoder.is_broken`, and everything is passed over.

One of our own heartbeats is alone in its transaction: nothing can be missing there.

A connector that was restarted right behind an END still takes that transaction for open, since it stores its place
with END before it closes it. Where a message outside of transactions comes next, it ends it once more, at the position
of the message. A transaction ends once, so an END of the one that ended last says nothing.

What stops the stream is a connector that began anew without its stored place: its first events know of no commit before
them, and what its slot does not send again is missing. Where it sends again what was read, nothing can be missing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from cdc.events import Change, Event, Idle, Message, Transaction, Truncate
from cdc.kafka.decoder.envelope import (
    Boundary,
    Envelopes,
    Headers,
    MessageEvent,
    Nothing,
    Record,
    RowEvent,
    Started,
    TruncateEvent,
    Undecodable,
)
from cdc.kafka.decoder.rows import TableDecoder, of_a_snapshot, unknown
from cdc.kafka.settings import HEARTBEAT_PREFIX, Encoding
from contexts.catalog import Table
from contexts.model import TableName

log = logging.getLogger(__name__)
#: A transaction that was set back so often, and still is not whole, never will be.
_MOST_BREAKS = 5
_REPAIR = "the stream cannot be had from here on: carveout abort, carveout prepare, and copy anew"


@dataclass(slots=True)
class _Open:
    """The transaction that is being read."""

    xid: int
    run: bytes = b""
    count: int = 0
    bytes: int = 0
    time_us: int = 0
    changes: list[Change] = field(default_factory=list)
    #: Start of the last TRUNCATE's record: its tables come one by one.
    truncate_lsn: int | None = None
    #: A changed key's first half.
    left: RowEvent | None = None
    only_heartbeats: bool = True
    has_messages: bool = False
    #: The connector was started since: it has to begin the transaction anew.
    is_cut: bool = False
    #: Whether the connector knew of a commit before this transaction: one that began without its place does not.
    knew_before: bool = True
    #: Positions of the events, and of those that came before it was broken off and sent again.
    lsns: list[int | None] = field(default_factory=list)
    before: list[int | None] = field(default_factory=list)
    #: How often it was broken off.
    breaks: int = 0


class Decoder:
    """Records of one partition in, transactions out.

    :param tables: what the events have to look like, partitions included; ``replica_identity`` is the open side's.
    :param end_lsn: transactions that ended at or before it are dropped: they are applied.
    :param is_continued: a transaction was read before, from the records before these.
    """

    def __init__(
        self, tables: Mapping[TableName, Table], encoding: Encoding, end_lsn: int = 0, *, is_continued: bool = False
    ) -> None:
        self._tables = {name: TableDecoder(table, encoding) for name, table in tables.items()}
        self._envelopes = Envelopes()
        self._open: _Open | None = None
        self._is_continued = is_continued
        self._broken: _Open | None = None
        self.end_lsn = end_lsn
        #: The transaction that ended last, where it is known.
        self.last_xid: int | None = None

    @property
    def is_between(self) -> bool:
        """Whether no transaction is half read."""
        return self._open is None

    @property
    def is_waiting(self) -> bool:
        """Whether no record may be given to it now."""
        return False

    @property
    def is_broken(self) -> bool:
        """Whether the connector was restarted inside a transaction, which has not come again yet."""
        return self._broken is not None

    def record(self, value: bytes | None, headers: Headers, offset: int) -> Event | None:
        """Take the next record; the event that it completes, if any.

        :raises StreamStopped: it cannot be read, does not fit the tables, or something is missing before it.
        """
        event = self._envelopes.parse(value, headers)
        if self._broken is not None and not self._comes_again(event, self._broken):
            return None
        match event:  # in the order of how many there are
            case RowEvent():
                self._row(event)
                return None
            case Boundary(is_end=False):
                self._begin(event)
                return None
            case Boundary():
                return self._end(event, offset + 1)
            case Nothing():
                return None
            case Started():
                if self._open is not None:
                    self._open.is_cut = True
                return None
            case TruncateEvent():
                self._truncate(event)
                return None
            case MessageEvent():
                return self._message(event, offset + 1)

    def leave_out(self, value: bytes | None, headers: Headers) -> None:
        """Pass over a record that an operator decided to leave out; in a transaction it counts, and changes nothing.

        :raises StreamStopped: it begins or ends a transaction, or does not stand where it was due.
        """
        try:
            event = self._envelopes.parse(value, headers)
        except Undecodable:
            return  # nothing of Debezium's: no transaction counts it
        match event:
            case Boundary():
                raise stopped(f"a record that begins or ends transaction {event.xid} cannot be left out")
            case RowEvent() | TruncateEvent() | MessageEvent() if event.place is not None:
                if inside := self._enter(event):
                    inside.left = None
            case _:
                return

    def _comes_again(self, event: Record, broken: _Open) -> bool:
        """Whether the broken transaction begins here once more."""
        if not isinstance(event, Boundary) or event.is_end or event.xid != broken.xid:
            return False
        log.info("transaction %d, inside of which the connector was restarted, comes again", broken.xid)
        self._open, self._broken = broken, None
        return True

    def _break(self, inside: _Open) -> None:
        log.warning("the connector was restarted inside transaction %d", inside.xid)
        inside.before = max(inside.before, inside.lsns, key=len)
        inside.breaks += 1
        if inside.breaks > _MOST_BREAKS:
            raise stopped(f"transaction {inside.xid} came {inside.breaks} times, and never whole")
        self._open, self._broken = None, inside

    def _begin(self, event: Boundary) -> None:
        former, self._open = self._open, _Open(event.xid)
        if former is None:
            return
        if former.xid != event.xid:
            self._break(former)
            return
        self._open.before = max(former.before, former.lsns, key=len)
        self._open.breaks = former.breaks

    def _end(self, event: Boundary, ordinal: int) -> Event | None:
        done, self._open = self._open, None
        if done is None and (event.lsn <= self.end_lsn or event.xid == self.last_xid):
            log.info("the end of transaction %d was sent again by a connector that went on there", event.xid)
            return None
        if done is None or done.xid != event.xid:
            raise stopped(f"the end of transaction {event.xid} came without its beginning")
        differs = done.count != event.count or done.left is not None
        if differs and not done.before:
            raise stopped(f"transaction {event.xid} has {event.count} events, and {done.count} arrived")
        # Cut: its count is that of the rows that were sent before, whatever was left out since.
        is_cut = done.is_cut and not (done.count and done.only_heartbeats)
        if is_cut or differs or done.count < len(done.before):
            self._break(done)
            return None
        known, self._is_continued = self._is_continued, True
        self.last_xid = event.xid
        if event.lsn <= self.end_lsn:
            log.info("transaction %d was sent again and is dropped", event.xid)
            return None
        if known and not done.knew_before:
            raise stopped(f"the connector began without its place before transaction {event.xid}")
        self.end_lsn = event.lsn
        if done.only_heartbeats:
            return Idle(event.lsn, ordinal)
        return Transaction(
            done.xid, event.lsn - 1, event.lsn, done.time_us, done.changes, len(done.changes), done.bytes, ordinal,
            only_rows=not done.has_messages,
        )  # fmt: skip

    def _enter(self, event: RowEvent | TruncateEvent | MessageEvent) -> _Open | None:
        """The open transaction, after checking that ``event`` is its next one; None where it is broken off."""
        inside, place = self._open, event.place
        if inside is not None:
            is_other = event.run and inside.run and event.run != inside.run  # messages carry no run
            is_cut = inside.is_cut and not (inside.only_heartbeats and is_heartbeat(event))
            if is_other or is_cut:
                self._break(inside)
                return None
        if place is None or inside is None or place.xid != inside.xid:
            raise stopped(f"an event of transaction {event.source.xid} came outside of it")
        inside.count += 1
        if place.total_order != inside.count:
            raise stopped(f"transaction {place.xid}: event {place.total_order} came where {inside.count} was due")
        if inside.count <= len(inside.before) and inside.before[inside.count - 1] != event.source.lsn:
            self._break(inside)  # it goes on where it was broken off, and does not begin again
            return None
        inside.lsns.append(event.source.lsn)
        if inside.left is not None and not (isinstance(event, RowEvent) and event.key_came):
            raise stopped(f"transaction {place.xid}: a changed key came without its new row")
        if inside.count == 1:
            inside.knew_before = event.source.last_commit is not None
        inside.run, inside.time_us = event.run or inside.run, event.source.time_us
        inside.bytes += event.size
        return inside

    def _row(self, event: RowEvent) -> None:
        if event.op == "r":
            raise of_a_snapshot(event.source.table)
        if (inside := self._enter(event)) is None:
            return
        table = self._table(event.source.table)
        inside.only_heartbeats, inside.truncate_lsn = False, None
        if event.op == "d" and event.key_left:
            inside.left = event
            return
        inside.changes.append(_change(table, event, inside.left))
        inside.left = None

    def _truncate(self, event: TruncateEvent) -> None:
        if (inside := self._enter(event)) is None:
            return
        relation = self._table(event.source.table).relation
        inside.only_heartbeats = False
        last = inside.changes[-1] if inside.changes else None
        if isinstance(last, Truncate) and inside.truncate_lsn == event.source.lsn:
            inside.changes[-1] = Truncate((*last.relations, relation), False, False)
        else:
            inside.changes.append(Truncate((relation,), False, False))
        inside.truncate_lsn = event.source.lsn

    def _message(self, event: MessageEvent, ordinal: int) -> Event | None:
        lsn = event.source.lsn
        if lsn is None:
            raise Undecodable("a message without a position in the log")
        if event.place is not None:
            if (inside := self._enter(event)) is None:
                return None
            inside.only_heartbeats &= is_heartbeat(event)
            inside.truncate_lsn = None
            inside.has_messages = True
            inside.changes.append(Message(event.prefix, event.content, lsn))
            return None
        # Outside of transactions messages are sent when the log is read past them: all commits before it are here.
        if self._open is not None or lsn <= self.end_lsn:
            return None
        if self._is_continued and event.source.last_commit is None:
            return None  # of a connector that began without its place: its next transaction stops the stream
        self.end_lsn = lsn
        return Idle(lsn, ordinal)

    def _table(self, name: TableName) -> TableDecoder:
        table = self._tables.get(name)
        if table is None:
            raise unknown(name)
        return table


def is_heartbeat(event: object) -> bool:
    """Whether it is one of our own heartbeats, whose transaction holds nothing else."""
    return isinstance(event, MessageEvent) and event.prefix == HEARTBEAT_PREFIX


def _change(table: TableDecoder, event: RowEvent, left: RowEvent | None) -> Change:
    if event.key_came:
        if left is None or left.source.table != event.source.table:
            raise stopped(f"table {event.source.table}: the new row of a changed key came without the old one")
        return table.moved(left, event)
    match event.op:
        case "c":
            return table.insert(event)
        case "u":
            return table.update(event)
        case _:
            return table.delete(event)


def stopped(what: str) -> Undecodable:
    """What came does not fit together: nothing of the transaction is applied."""
    return Undecodable(what, unchanged="the transaction was not applied", next_step=_REPAIR)
