"""Collects changes by table until they are written: the chunk that bounds the applier's memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from cdc.apply.compact import RowChange
from cdc.apply.plan import Plan
from cdc.apply.plans import Plans
from cdc.apply.watch import Watch
from cdc.apply.writer import Writer
from cdc.events import Change, Delete, Message, Relation, Truncate, Value

_SLICE = 256


class Collector:
    """Rows wait in logs, one per table and in source order; a full chunk or a TRUNCATE writes them all."""

    def __init__(
        self, plans: Plans, writer: Writer, max_rows: int, max_bytes: float, watch: Watch | None = None
    ) -> None:
        self._plans = plans
        self._writer = writer
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._watch = watch
        self._logs: dict[Plan, list[RowChange]] = {}
        self._by_relation: dict[Relation, list[RowChange]] = {}
        self._rows = 0
        self._bytes = 0

    def add(self, changes: Iterable[Change], total_bytes: int) -> Iterator[Message]:
        """Take in one transaction's changes and yield its messages; must be exhausted.

        :param total_bytes: the size of them all: those of a large transaction are weighed one by one.
        """
        is_large = total_bytes > self._max_bytes
        source = iter(changes)
        while some := list(islice(source, _SLICE)):
            yield from self._collect(self._watch.shown(some) if self._watch else some)
            self._rows += len(some)
            if is_large:
                self._bytes += sum(map(_weight, some))
            if self._rows >= self._max_rows or self._bytes >= self._max_bytes:
                self.flush()
        if not is_large:
            self._bytes += total_bytes

    def flush(self) -> None:
        """Write everything that was collected."""
        if self._watch:
            self._watch.before_write()
        for plan, log in self._logs.items():
            self._writer.write(plan, log)
        self._logs.clear()
        self._by_relation.clear()
        self._rows = self._bytes = 0

    def _collect(self, changes: Iterable[Change]) -> Iterator[Message]:
        logs = self._by_relation
        for change in changes:
            if isinstance(change, Message):
                yield change
            elif isinstance(change, Truncate):
                self._truncate(change)
            else:
                log = logs.get(change.relation)
                if log is None:
                    log = self._open(change.relation)
                log.append(change)

    def _open(self, relation: Relation) -> list[RowChange]:
        """The log of the relation's table; a changed relation must not overtake the rows of the former one."""
        before = self._plans.latest(relation.table)
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
