"""Barriers at which the keys changed last are compared before anything else is."""

from __future__ import annotations

import datetime as dt
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from contexts.catalog import Table, read_tables
from contexts.databases import Databases
from contexts.model import Context, Side, TableName
from migrator.barriers import WorkerBarriers
from validations.barrier import Barrier
from validations.diff.delta import KeysResult, diff_keys
from validations.diff.model import Difference, DiffOptions, Key
from validations.diff.plan import row_hash, subjects
from validations.diff.run import both_fingerprints
from validations.diff.sessions import Pair, sessions
from validations.diff.subject import Subject
from validations.snapshots import Rewritten
from validations.state.store import Verifications

_log = logging.getLogger(__name__)
_RECENT = "SELECT table_schema, table_name, columns, key FROM carveout.recent_key WHERE context = %s"
_LIMIT_S = 60.0  # for all keys of a re-check; they are some thousands at most
_OPTIONS = DiffOptions()


@dataclass(frozen=True)
class Rechecked:
    """What a re-check saw."""

    keys: int
    differences: tuple[tuple[TableName, Difference], ...]


@dataclass
class RecheckingBarriers:
    """As the worker's barriers, each with a re-check; what differs is stored, and told."""

    context: Context
    both: Databases
    tell: Callable[[Rechecked], None] = lambda _: None
    #: What was found last, so that the same is not stored with every barrier.
    _known: set[tuple[TableName, Key]] = field(default_factory=set)

    @contextmanager
    def __call__(self) -> Iterator[Barrier]:
        """A barrier whose changed keys have been compared.

        :raises CarveoutError: as :class:`migrator.barriers.WorkerBarriers`.
        """
        with WorkerBarriers(self.context, self.both, recent_keys=True)() as barrier:
            try:
                self._recheck(barrier)
            except Rewritten as error:
                _log.info("%s; the next barrier compares the changed keys", error)
            yield barrier

    def _recheck(self, barrier: Barrier) -> None:
        at = dt.datetime.now(dt.UTC)
        tables = [self._tables(barrier.open_side), self._tables(barrier.open_side.other)]
        with sessions(barrier, _OPTIONS) as pair:
            results = _compare(pair, self.context.name, *tables)
        found = {(result.table, d.key) for result in results for d in result.differences}
        if found - self._known:
            store = Verifications(self.both.service, self.context.name)
            store.save_keys(barrier.open_side, both_fingerprints(*tables), barrier.lsn, at, results)
        self._known = found
        differences = tuple((result.table, d) for result in results for d in result.differences)
        self.tell(Rechecked(sum(result.compared for result in results), differences))

    def _tables(self, side: Side) -> dict[TableName, Table]:
        with self.both[side].connect("verify") as conn:
            return read_tables(conn, self.context.table_names)


def _compare(
    pair: Pair, context: str, ours: dict[TableName, Table], theirs: dict[TableName, Table]
) -> list[KeysResult]:
    hashing, _ = row_hash(pair.open, pair.closed, secrets.randbits(63))
    found, _ = subjects(ours, theirs, ours.keys() & theirs.keys(), hashing)
    deadline = time.monotonic() + _LIMIT_S
    with pair.reading():
        wanted = _recent(pair, context, found)
        results = [diff_keys(pair, found[name], keys, deadline=deadline) for name, keys in wanted.items()]
        pair.require_as_they_were()
        return results


def _recent(pair: Pair, context: str, found: dict[TableName, Subject]) -> dict[TableName, set[Key]]:
    """The keys that the worker stored at the barrier, where the comparison has the same key."""
    wanted: dict[TableName, set[Key]] = {}
    for schema, table, columns, key in pair.closed.execute(_RECENT, (context,)):
        name, values = TableName(schema, table), dict(zip(columns, key, strict=True))
        if name in found and {column.name for column in found[name].key} == values.keys():
            wanted.setdefault(name, set()).add(tuple(values[column.name] for column in found[name].key))
    return wanted
