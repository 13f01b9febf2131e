"""The most recently changed keys, kept in memory and stored with the fence marker.

A switch compares them on both sides while nobody writes: a full comparison has no time there, and what changed last
is what a proof from a moment ago has not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from psycopg import sql

from cdc.apply.compact import Entry
from cdc.apply.plan import Key, Plan
from cdc.events import Delete, Missing
from contexts.databases import Connection
from contexts.model import TableName

#: Keys remembered per table; storing and comparing them takes a small part of a switch.
LIMIT = 5_000
_COPY = sql.SQL("COPY carveout.recent_key (context, table_schema, table_name, columns, key) FROM STDIN")


class RecentKeys:
    """Remembers the last keys of each keyed table, in the order of their last change."""

    def __init__(self) -> None:
        self._keys: dict[tuple[TableName, tuple[str, ...]], dict[Key, None]] = {}

    def note(self, plan: Plan, log: Sequence[Entry]) -> None:
        """Remember the keys of the changes, old and new; tables without key have none."""
        if not plan.is_keyed:
            return
        columns = tuple(plan.name(place) for place in plan.key)
        self._add(plan.relation.table, columns, (key for entry in log[-LIMIT:] for key in _keys(plan, entry)))

    def audited(self, table: TableName, columns: tuple[str, ...], key: tuple[str, ...]) -> None:
        """Remember a key that an application has written to both sides."""
        values = tuple(value.encode() for value in key)
        self._add(table, columns, [values[0] if len(values) == 1 else values])

    def _add(self, table: TableName, columns: tuple[str, ...], keys: Iterable[Key]) -> None:
        kept = self._keys.setdefault((table, columns), {})
        for key in keys:
            kept.pop(key, None)
            kept[key] = None
        for key in list(islice(kept, max(0, len(kept) - LIMIT))):
            del kept[key]

    def store(self, conn: Connection, context: str) -> None:
        """Replace what is stored for the context, in the open transaction."""
        conn.execute("DELETE FROM carveout.recent_key WHERE context = %s", (context,))
        with conn.cursor() as cursor, cursor.copy(_COPY) as copy:
            for (table, columns), keys in self._keys.items():
                for key in keys:
                    values = (key,) if len(columns) == 1 else key
                    copy.write_row((context, *table, list(columns), [value.decode() for value in values]))


def _keys(plan: Plan, entry: Entry) -> Iterator[Key]:
    if isinstance(entry, bytes):
        keys = [plan.packed_key_of(entry)]
    elif isinstance(entry, Delete):
        keys = [plan.key_of(entry.old)]
    else:
        rows = [entry.new, getattr(entry, "old", None)]
        keys = [plan.key_of(row) for row in rows if row is not None]
    for key in keys:
        # A toasted key that did not change is not in the new image, but in the old one.
        if not any(isinstance(value, Missing) for value in plan.key_values(key)):
            yield key
