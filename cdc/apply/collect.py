"""Collects changes by table until they are written: the chunk that bounds the applier's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

from cdc.apply.ahead import Ahead
from cdc.apply.compact import Entry
from cdc.apply.plan import Plan
from cdc.apply.plans import Plans
from cdc.apply.tap import Tap
from cdc.apply.watch import Watch
from cdc.apply.writer import Writer
from cdc.events import Change, Delete, Message, Packed, RecordDecoder, Relation, Truncate, Value
from cdc.outbox.events import OutboxEvent
from cdc.source.packed import HEAD, is_packed

_SLICE = 256
_T = TypeVar("_T")


class Collector:
    """Rows wait in logs, one per table and in source order; a full chunk or a TRUNCATE writes them all."""

    def __init__(
        self,
        plans: Plans,
        writer: Writer,
        ahead: Ahead,
        max_rows: int,
        max_bytes: float,
        watch: Watch | None = None,
        tap: Tap | None = None,
    ) -> None:
        self._plans = plans
        self._writer = writer
        self._ahead = ahead
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._watch = watch
        self._tap = tap
        self._logs: dict[Plan, list[Entry]] = {}
        self._by_relation: dict[Relation, list[Entry]] = {}
        #: The log of packed records by what they begin with, as long as the relations are these.
        self._by_head: dict[bytes, list[Entry]] = {}
        self._relations: Mapping[int, Relation] = {}
        self._rows = 0
        self._bytes = 0

    def add(self, changes: Iterable[Change], total_bytes: float) -> Iterator[Message]:
        """Take in one transaction's changes and yield its messages; must be exhausted.

        :param total_bytes: the size of them all: those of a large transaction are weighed one by one.
        """
        shown = self._watch.shown if self._watch else iter
        yield from self._in_slices(
            changes, total_bytes, lambda some: self._collect(shown(some)), _weight, self.flush
        )  # fmt: skip

    def add_rows(self, changes: Iterable[Change], total_bytes: float) -> None:
        """The same for changes among which there are no messages, and at which nobody looks."""
        for _ in self._in_slices(changes, total_bytes, self._collect, _weight, self.flush_ahead):
            raise AssertionError("a message among rows")

    def add_packed(self, packed: Packed, total_bytes: float) -> Iterator[Message]:
        """The same for changes in their packed form."""
        decoder = packed.decoder
        yield from self._in_slices(
            packed.records, total_bytes, lambda some: self._collect_packed(some, decoder), len, self.flush_ahead
        )  # fmt: skip

    def _in_slices(
        self,
        changes: Iterable[_T],
        total_bytes: float,
        collect: Callable[[Sequence[_T]], Iterable[Message]],
        weight: Callable[[_T], int],
        flush: Callable[[], None],
    ) -> Iterator[Message]:
        is_large = total_bytes > self._max_bytes
        source = iter(changes)
        while some := list(islice(source, _SLICE)):
            yield from collect(some)
            if self._is_full(len(some), sum(map(weight, some)) if is_large else 0):
                flush()
        if not is_large:
            self._bytes += int(total_bytes)

    def flush(self) -> None:
        """Write everything that was collected."""
        self._ahead.wait()
        if self._watch:
            self._watch.before_write()
        self._write(*self._taken())

    def flush_ahead(self) -> None:
        """Have everything written while the next rows are collected; waits for what was to be written before.

        Not where somebody watches: that one uses the same connection.
        """
        self._ahead.wait()
        self._ahead.start(partial(self._write, *self._taken()))

    def _taken(self) -> tuple[dict[Plan, list[Entry]], Sequence[OutboxEvent]]:
        logs, self._logs = self._logs, {}
        self._by_relation.clear()
        self._by_head.clear()
        self._rows = self._bytes = 0
        return logs, self._tap.taken() if self._tap else ()

    def _write(self, logs: Mapping[Plan, list[Entry]], events: Sequence[OutboxEvent]) -> None:
        for plan, log in logs.items():
            self._writer.write(plan, log)
        if self._tap:
            self._tap.write(events)

    def _is_full(self, rows: int, size: int) -> bool:
        """Count what was collected; whether the chunk must be written before more comes."""
        self._rows += rows
        self._bytes += size
        return self._rows >= self._max_rows or self._bytes >= self._max_bytes

    def _collect_packed(self, records: Iterable[bytes], decoder: RecordDecoder) -> Iterator[Message]:
        if decoder.relations is not self._relations:
            self._by_head.clear()
        logs = self._by_head
        for record in records:
            if (log := logs.get(record[HEAD])) is not None:
                log.append(record)
            elif (change := decoder.decode(record)) is None:
                logs.clear()  # it may be a relation that was described anew
            elif isinstance(change, Truncate):
                self._truncate(change)
            elif isinstance(change, Message):
                yield change
            else:
                log = self._log_of(change.relation)
                log.append(record if is_packed(record) else change)
                if self._tap and self._taps(self._tap, change.relation):
                    self._tap.note(change)
                elif is_packed(record):
                    logs[record[HEAD]] = log
        self._relations = decoder.relations

    def _taps(self, tap: Tap, relation: Relation) -> bool:
        if not tap.knows(relation):
            self._ahead.wait()  # the server is asked next
        return tap.takes(relation)

    def _collect(self, changes: Iterable[Change]) -> Iterator[Message]:
        for change in changes:
            if isinstance(change, Message):
                yield change
            elif isinstance(change, Truncate):
                self._truncate(change)
            else:
                self._log_of(change.relation).append(change)

    def _log_of(self, relation: Relation) -> list[Entry]:
        """The log of the relation's table; a changed relation must not overtake the rows of the former one."""
        log = self._by_relation.get(relation)
        if log is None:
            before = self._plans.latest(relation.table)
            if self._plans.known(relation) is None:
                self._ahead.wait()  # the server is asked next
            plan = self._plans.of(relation)
            if before is not None and before is not plan and before in self._logs:
                self.flush()
            log = self._by_relation[relation] = self._logs.setdefault(plan, [])
        return log

    def _truncate(self, change: Truncate) -> None:
        self.flush()
        self._writer.truncate([self._plans.of(relation) for relation in change.relations])


def _weight(change: Change) -> int:
    """The bytes of a change's values."""
    if isinstance(change, (Message, Truncate)):
        return 0
    row = change.old if isinstance(change, Delete) else change.new
    return sum(map(_length, row))


def _length(value: Value) -> int:
    return len(value) if isinstance(value, bytes) else 0
