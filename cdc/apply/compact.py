"""The net effect of many changes of one table, by key.

Pure: changes in, at most one delete, one update and one insert per key out. A key's text is its identity here,
which is safe even where the server calls different texts equal, because the stream names a stored row always by
the text that is stored. Deletes, then updates, then inserts lead to the same rows as the changes in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cdc.apply.plan import Key, Plan, filled
from cdc.events import ABSENT, UNCHANGED, Delete, Insert, Row, Update
from cdc.source.packed import is_insert, may_hold_unchanged

RowChange = Insert | Update | Delete
#: A change, or a packed record of one (:mod:`cdc.source.packed`).
Entry = RowChange | bytes
#: A row, or the packed record that holds it.
Kept = Row | bytes


@dataclass(slots=True)
class Net:
    """What is left to write; rows of updates may hold UNCHANGED, rows of inserts are whole."""

    deletes: dict[Key, None] = field(default_factory=dict)
    updates: dict[Key, Kept] = field(default_factory=dict)
    inserts: dict[Key, Kept] = field(default_factory=dict)


def compact(plan: Plan, log: Sequence[Entry], start: int = 0) -> tuple[Net, int]:
    """The net effect of ``log[start:stop]``, and ``stop``: the first change that cannot be merged, or the end.

    A change stops the merging where it must meet the rows as they are: one without a key, a move to another key
    with values that the stream did not carry, or one that contradicts what was merged before it.
    """
    compactor = _Compactor(plan)
    add, add_packed = compactor.add, compactor.add_packed
    for place in range(start, len(log)):
        entry = log[place]
        # Not in one method: most of a stream is packed, and a call costs as much as the merge.
        if not (add_packed(entry) if isinstance(entry, bytes) else add(entry)):
            return compactor.net, place
    return compactor.net, len(log)


class _Compactor:
    """Collects changes; every method says whether it merged its change, and changes nothing if not."""

    def __init__(self, plan: Plan) -> None:
        self.net = Net()
        self._plan = plan
        self._is_keyed = plan.is_keyed
        self._key_of, self._packed_key_of = plan.key_of, plan.packed_key_of
        self._rows = 0

    def add(self, change: RowChange) -> bool:
        kind = type(change)
        if kind is Insert:
            new = change.new  # type: ignore[union-attr]  # match would cost more than the merge
            return self._insert(self._key_of(new) if self._is_keyed else None, new)
        if not self._is_keyed:
            return False
        if kind is Update:
            return self._update(change)  # type: ignore[arg-type]
        return self._delete(change)  # type: ignore[arg-type]

    def add_packed(self, record: bytes) -> bool:
        if not self._is_keyed:
            return is_insert(record) and self._insert(None, record)
        key = self._packed_key_of(record)
        return self._insert(key, record) if is_insert(record) else self._merge(key, record)

    def _insert(self, key: Key, new: Kept) -> bool:
        net = self.net
        if not self._is_keyed:
            self._rows += 1  # equal rows are several rows: each gets a name of its own
            key = self._rows
        elif key in net.inserts or key in net.updates:
            return False
        net.inserts[key] = new
        return True

    def _update(self, change: Update) -> bool:
        if change.old is None:
            return self._merge(self._key_of(change.new), change.new)
        if not self._agrees(change):
            return False
        key = self._key_of(change.old)
        new = whole(self._plan, change)
        moved = self._key_of(new)
        return self._merge(key, new) if moved == key else self._move(key, moved, new)

    def _merge(self, key: Key, new: Kept) -> bool:
        net = self.net
        if (row := net.inserts.get(key)) is not None:
            net.inserts[key] = self._over(row, new)
        elif (row := net.updates.get(key)) is not None:
            net.updates[key] = self._over(row, new)
        elif key in net.deletes:
            return False
        else:
            net.updates[key] = new
        return True

    def _over(self, row: Kept, new: Kept) -> Kept:
        """The row after an update to ``new``."""
        if isinstance(new, bytes) and not may_hold_unchanged(new):
            return new
        changed = self._plan.row_of(new)
        return filled(changed, self._plan.row_of(row), UNCHANGED) if UNCHANGED in changed else changed

    def _move(self, key: Key, moved: Key, new: Row) -> bool:
        net = self.net
        row = net.inserts.get(key) or net.updates.get(key)
        if row is not None:
            new = filled(new, self._plan.row_of(row), UNCHANGED)
        if UNCHANGED in new or self._plan.extras or moved in net.inserts or moved in net.updates:
            return False
        if not self._remove(key):
            return False
        net.inserts[moved] = new
        return True

    def _delete(self, change: Delete) -> bool:
        return self._agrees(change) and self._remove(self._key_of(change.old))

    def _remove(self, key: Key) -> bool:
        net = self.net
        if key in net.inserts:
            del net.inserts[key]
        elif key in net.deletes:
            return False
        else:
            net.updates.pop(key, None)
            net.deletes[key] = None
        return True

    def _agrees(self, change: Update | Delete) -> bool:
        """Whether a full old image is the row that is known: with a deferrable key it may be another one."""
        if not change.old_is_full or change.old is None:
            return True
        key = self._key_of(change.old)
        known = self.net.inserts.get(key) or self.net.updates.get(key)
        return known is None or self._plan.row_of(known) == change.old


def whole(plan: Plan, change: Update) -> Row:
    """The new row with each unchanged value that the old image holds: all of a full one, the key of another."""
    new, old = change.new, change.old
    if old is None or UNCHANGED not in new:
        return new
    if change.old_is_full:
        return filled(new, old, UNCHANGED)
    columns = plan.relation.columns
    return [
        old[place] if value is UNCHANGED and columns[place].is_key and old[place] is not ABSENT else value
        for place, value in enumerate(new)
    ]
