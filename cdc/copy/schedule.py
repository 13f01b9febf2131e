"""Which part is copied next, so that a cycle ends in time and always gets something done. No I/O."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

from cdc.copy.model import Part, Strategy
from contexts.model import TableName

_log = logging.getLogger(__name__)


class Schedule:
    """The unfinished parts of one cycle; times are seconds since the snapshot was taken.

    Tables copied by ctid come first, the largest at the head, since one that is not complete when the cycle ends
    begins again. One that would probably not be complete is not begun, unless it is the first: that one is always
    brought to its end, however old the snapshot gets, or it never would be.
    """

    def __init__(self, parts: Iterable[Part], deadline_s: float) -> None:
        self._deadline_s = deadline_s
        tables: dict[TableName, deque[Part]] = {}
        for part in parts:
            tables.setdefault(part.table, deque()).append(part)
        ordered = sorted(tables.values(), key=lambda table: (table[0].strategy is Strategy.KEY, -_size(table)))
        self._whole = [table for table in ordered if table[0].strategy is Strategy.CTID]
        self._ranges = deque(part for table in ordered if table[0].strategy is Strategy.KEY for part in table)
        self._begun: deque[Part] = deque()
        self._first: TableName | None = None
        self._handed_out = self._finished = 0
        self._warned = False

    def next(self, age_s: float) -> Part | None:
        """The next part to copy, or None where the cycle should end."""
        part = self._late() if self.is_late(age_s) else self._in_time(age_s)
        if part is not None:
            self._handed_out += part.estimated_bytes
        return part

    def is_late(self, age_s: float) -> bool:
        """Whether the snapshot has reached its maximal age."""
        return age_s >= self._deadline_s

    def done(self, part: Part) -> None:
        """Take note that a part is copied, to know the rate."""
        self._finished += part.estimated_bytes

    def _in_time(self, age_s: float) -> Part | None:
        if not self._begun:
            self._begin(age_s)
        if self._begun:
            return self._begun.popleft()
        return self._ranges.popleft() if self._ranges else None

    def _late(self) -> Part | None:
        if self._first is None and not self._handed_out:
            return self._in_time(self._deadline_s)  # a cycle that does nothing would be repeated for ever
        if self._begun and self._begun[0].table == self._first:
            if not self._warned:
                self._warned = True
                _log.warning("%s does not fit into one snapshot's maximal age: its copy goes on", self._first)
            return self._begun.popleft()
        return None

    def _begin(self, age_s: float) -> None:
        for number, table in enumerate(self._whole):
            if self._first is None or self._fits(_size(table), age_s):
                self._begun = self._whole.pop(number)
                self._first = self._first or table[0].table
                return

    def _fits(self, size: int, age_s: float) -> bool:
        if not self._finished:
            return True
        outstanding = self._handed_out - self._finished + size
        return age_s + outstanding * age_s / self._finished <= self._deadline_s


def _size(table: Iterable[Part]) -> int:
    return sum(part.estimated_bytes for part in table)
