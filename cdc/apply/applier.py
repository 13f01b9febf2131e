"""Writes source transactions to the closed side, exactly once."""

from __future__ import annotations

import contextlib
import logging
import math
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import psycopg

from cdc.apply import failures, markers
from cdc.apply.ahead import Ahead
from cdc.apply.batch import MB, Batch, Pending
from cdc.apply.collect import Collector
from cdc.apply.coverage import FULL, Coverage
from cdc.apply.lockstep import Audit
from cdc.apply.markers import Marker
from cdc.apply.plans import Plans
from cdc.apply.tap import Tap
from cdc.apply.types import SourceTypes
from cdc.apply.watch import Observer, Watch
from cdc.apply.writer import Writer
from cdc.events import Message, Packed, Transaction
from cdc.lsn import format_lsn
from cdc.state import position
from cdc.state.position import Position, StreamId
from contexts.databases import Connection, Database
from contexts.errors import AccessDenied, StreamStopped
from contexts.killpoints import kill_point
from contexts.model import Options, TableName
from contexts.outbox import Outbox

_log = logging.getLogger(__name__)
_IDLE_INTERVAL_S = 3.0
_IDLE_FAR_BYTES = 16 * MB
_CANCEL_S = 5.0
# A worker that hangs with locks held, or a long DDL, becomes an error that is tried again instead of silence.
_SESSION = {"synchronous_commit": "on", "jit": "off", "temp_buffers": "64MB", "lock_timeout": "30s"}


class Applier:
    """The only writer of a stream's tables on its closed side.

    Rows, markers and position are committed together. Any error rolls the open batch back and ends the applier:
    whoever goes on must read the stream again from the stored position, so nothing can be left out.
    """

    def __init__(
        self,
        database: Database,
        stream: StreamId,
        tables: Sequence[TableName],
        options: Options,
        *,
        owner: uuid.UUID,
        coverage: Coverage = FULL,
        source: SourceTypes | None = None,
        converted: Sequence[TableName] = (),
        observers: Sequence[Observer] = (),
        outboxes: Sequence[Outbox] = (),
    ) -> None:
        """Connect and take the stream over: from here on no other worker can commit.

        :param coverage: what the copy has brought; see :class:`Coverage`.
        :param source: describes the types of the stream, to compare those of users and extensions; without it only
            built-in types are compared.
        :param converted: tables whose rows may have other types than the closed side: their text is read as its type.
        :param observers: are shown what passes; only on tables that the copy has wholly brought.
        :param outboxes: tables whose inserted rows are queued as events, with the rows.
        :raises StreamStopped: the stream has no position.
        :raises DatabaseUnreachable: no server answered.
        :raises AccessDenied: a right is missing.
        """
        self._stream = stream
        self._options = options
        self._owner = owner
        self._conn = _connect(database, stream.context)
        self._is_open = True
        self._idled_s = float("-inf")
        self._writer = Writer(self._conn, stream.context)
        plans = Plans(self._conn, stream.context, tables, coverage, source, converted)
        self._watch = Watch(self._conn, plans, observers) if observers else None
        self._tap = Tap(self._conn, stream, outboxes) if outboxes else None
        self._ahead = Ahead()
        self._collector = Collector(
            plans, self._writer, self._ahead, options.batch_rows, options.batch_mb * MB, self._watch, self._tap
        )
        #: Where the position will stand once the batch is committed that is being written.
        self._flight: Position | None = None
        #: The durable position.
        self.position: Position
        #: What the last commit applied.
        self.markers: list[Marker] = []
        with self._all_or_nothing():
            self.position = position.take(self._conn, stream, owner)
            self._audit = Audit(self._conn, stream.context, self._writer.recent, self._watch)
            if self._watch:
                self._watch.opened(in_lockstep=self._audit.in_lockstep)
            self._conn.commit()
        self._batch = Batch(self.position.end_lsn)
        self._wants_values = False

    @property
    def pending(self) -> Pending:
        """What is applied and not handed over to be committed."""
        return self._batch.pending()

    @property
    def is_writing(self) -> bool:
        """Whether :meth:`commit_ahead` has begun something that :meth:`settle` has not waited for."""
        return self._flight is not None

    @property
    def fallbacks(self) -> int:
        """How often the fast path had to give way to the exact one."""
        return self._writer.fallbacks

    @property
    def in_lockstep(self) -> bool:
        """Whether applications write both sides, where the stream stands now."""
        return self._audit.in_lockstep

    def is_due(self) -> bool:
        """Whether the batch should be committed now: a bound of the options is reached, or a marker waits."""
        return self._batch.is_due(self._options)

    def apply(self, transaction: Transaction) -> None:
        """Add a transaction to the open batch; never commits. One that was applied before is passed over.

        :raises SchemaMismatch: a revision must be written first.
        :raises StreamStopped: a change does not fit the rows that are there.
        :raises CarveoutError: the server failed.
        """
        self._require_open()
        if transaction.await_whole is None and transaction.end_lsn <= self._batch.end_lsn:
            _log.debug("transaction %d at %s is applied already", transaction.xid, format_lsn(transaction.end_lsn))
            return
        with self._all_or_nothing():
            if self._tap:
                self._tap.begin(transaction)
            # Those who look at every change want its values; everybody else is spared them.
            looks = self._watch or self._audit.in_lockstep
            if transaction.packed and not looks:
                self._collect_packed(transaction, transaction.packed())
            elif transaction.only_rows and not looks and not self._tap:
                self._collector.add_rows(transaction.changes, transaction.bytes)
            else:
                self._collect(transaction)
            self._batch.add(transaction)

    def _collect_packed(self, transaction: Transaction, packed: Packed) -> None:
        size = math.inf if transaction.await_whole else transaction.bytes
        self._note(self._collector.add_packed(packed, size), transaction)

    def _collect(self, transaction: Transaction) -> None:
        self._ahead.wait()  # those who look at the changes ask the server
        self._wants_values = True
        if transaction.await_whole and self._audit.in_lockstep:  # what it finds has the position in it
            transaction.await_whole()
        if self._watch:
            self._watch.begin(transaction)
        size = math.inf if transaction.await_whole else transaction.bytes
        # The tap comes before the audit, which takes out what applications have written to both sides.
        seen = replace(transaction, changes=self._tap.shown(transaction.changes)) if self._tap else transaction
        self._note(self._collector.add(self._audit.changes(seen), size), transaction)
        if self._watch:
            self._watch.end()

    def _note(self, messages: Iterable[Message], transaction: Transaction) -> None:
        """Exhaust ``messages``, and note those that are ours: only then the transaction's end is known for certain."""
        for message in [message for message in messages if message.prefix == markers.PREFIX]:
            if self._audit.notes(message):
                continue
            if marker := markers.read(message, self._stream.context, transaction.end_lsn):
                self._batch.markers.append(marker)
                self._audit.passed(marker)
                self._wants_values = True  # whoever waits for it is told in the same transaction

    def commit(self, ordinal: int | None = None, parts: tuple[int, ...] = ()) -> int:
        """Commit the batch with its markers and the position, and return the durable end LSN.

        :param ordinal: the source's sub-position, where it has one.
        :param parts: its sub-positions in further partitions, where it has those.
        :raises Fenced: another worker has taken the stream over; nothing was committed.
        :raises CarveoutError: as for :meth:`apply`.
        """
        durable, batch = self.settle(), self._batch
        if not batch.transactions:
            return durable
        with self._all_or_nothing():
            self._collector.flush()
            kill_point("apply.rows_written")
            self._audit.settle()
            if self._watch:
                self._watch.before_commit()
            markers.store(self._conn, self._stream.context, batch.markers)
            if any(marker.kind == markers.FENCE for marker in batch.markers):
                self._writer.recent.store(self._conn, self._stream.context)
            self._advance(self._reached(batch, ordinal, parts))
        self.markers = batch.markers
        self._writer.committed()
        if self._watch:
            self._watch.committed()
        return self.position.end_lsn

    def commit_ahead(self, ordinal: int | None = None, parts: tuple[int, ...] = ()) -> None:
        """Begin to commit the batch: the next one can be applied meanwhile, and :meth:`settle` tells the outcome.

        It is :meth:`commit` itself where something waits for the outcome or looks at the changes. What was begun
        before is settled first. Raises as :meth:`commit` does, then or at any later call.
        """
        self.settle()
        if self._wants_values or not self._batch.transactions:
            self.commit(ordinal, parts)
            return
        with self._all_or_nothing():
            to = self._reached(self._batch, ordinal, parts)
            self._collector.flush_ahead()
            self._ahead.start(partial(self._finish, to))
        self._flight, self._batch = to, Batch(to.end_lsn)

    def settle(self) -> int:
        """Wait for what :meth:`commit_ahead` has begun, and return the durable end LSN; raises as it does."""
        if self._flight is not None:
            with self._all_or_nothing():
                self._ahead.wait()
            self.position, self._flight = self._flight, None
            self.markers = []
        return self.position.end_lsn

    def idle(self, lsn: int, ordinal: int | None = None, parts: tuple[int, ...] = ()) -> int | None:
        """Move the position on where nothing is open, so that the slot does not hold the log back.

        :param lsn: nothing that ended at or before it is still to come.
        :param ordinal: as for :meth:`commit`, and so ``parts``.
        :returns: the durable LSN, or None where something is open or the last move was a moment ago.
        """
        if self._batch.transactions or self.is_writing:
            return None
        ahead, now = lsn - self.position.end_lsn, time.monotonic()
        if ahead <= 0:
            return self.position.end_lsn
        if ahead < _IDLE_FAR_BYTES and now - self._idled_s < _IDLE_INTERVAL_S:
            return None
        self._idled_s = now
        with self._all_or_nothing():
            self._advance(replace(
                self.position, end_lsn=lsn, ordinal=self.position.ordinal if ordinal is None else ordinal,
                parts=parts or self.position.parts,
            ))  # fmt: skip
        return lsn

    def store_recent_keys(self) -> None:
        """Store the keys changed last on the closed side; only where nothing is pending."""
        self.settle()
        with self._all_or_nothing():
            self._writer.recent.store(self._conn, self._stream.context)
            self._conn.commit()

    def close(self) -> None:
        """Roll back what is open and disconnect; safe to call twice."""
        self._is_open = False
        if self._ahead.is_busy:
            with contextlib.suppress(psycopg.Error):  # it has ended by itself, or its connection broke
                self._conn.cancel_safe(timeout=_CANCEL_S)
        self._ahead.end()
        self._conn.close()
        if self._watch:
            self._watch.close()

    def _reached(self, batch: Batch, ordinal: int | None, parts: tuple[int, ...]) -> Position:
        """The position once ``batch`` is committed."""
        return replace(
            self.position, end_lsn=batch.end_lsn, source_time=batch.source_time,
            ordinal=self.position.ordinal if ordinal is None else ordinal, parts=parts or self.position.parts,
        )  # fmt: skip

    def _advance(self, to: Position) -> None:
        """Write the position, commit, and only then believe it."""
        self._store(to)
        self.position = to
        self._batch = Batch(to.end_lsn)
        self._wants_values = False

    def _finish(self, to: Position) -> None:
        """The end of a batch of which only rows are to be written."""
        kill_point("apply.rows_written")
        self._store(to)
        self._writer.committed()

    def _store(self, to: Position) -> None:
        position.advance(self._conn, self._stream, self._owner, to.end_lsn, to.source_time, to.ordinal, to.parts)
        kill_point("apply.before_commit")
        self._conn.commit()
        kill_point("apply.after_commit")

    def _require_open(self) -> None:
        if not self._is_open:
            raise StreamStopped(
                f"context {self._stream.context!r}: this applier has ended; its open batch was rolled back",
                unchanged="no row was written",
                next_step="read the stream again from the stored position with a new applier",
            )

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        self._require_open()
        try:
            yield
        except psycopg.Error as error:
            self.close()
            raise failures.named(error, self._stream.context) from None
        except BaseException:
            self.close()
            raise


def _connect(database: Database, context: str) -> Connection:
    conn = database.connect(position.session_name(context), autocommit=False, **_SESSION)
    try:
        # Not at login: there a missing right looks like an unreachable server.
        conn.execute("SET session_replication_role = replica")
        conn.commit()
    except psycopg.errors.InsufficientPrivilege:
        role = conn.info.user
        conn.close()
        raise AccessDenied(
            f"{database.side} database ({database.shown()}): the role may not set session_replication_role, "
            "so triggers and foreign keys would fire a second time",
            unchanged="nothing was changed",
            next_step=f"as a superuser there: GRANT SET ON PARAMETER session_replication_role TO {role}",
        ) from None
    return conn
