"""Declared references at a barrier: which database each end is read in, and what each side answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import psycopg

from contexts.databases import Connection, Database, Databases, service_database
from contexts.loader import neighbours
from contexts.model import Context, Reference, Side, TableName
from migrator.control import migrations
from migrator.lifecycle import State
from validations.barrier import Barrier
from validations.invariants.model import Limits, Outcome, Result
from validations.references.count import End, orphans
from validations.references.declared import as_invariant
from validations.snapshots import imported


def check(context: Context, both: Databases, barrier: Barrier, limits: Limits) -> tuple[Result, ...]:
    """Count the orphans of every declared reference on both sides.

    :raises CarveoutError: a server went away, or the database of another context cannot be reached.
    """
    if not context.references:
        return ()
    with ExitStack() as stack:
        homes = _Homes(context, both, barrier, stack)
        return tuple(_result(homes, reference, limits) for reference in context.references)


def _result(homes: _Homes, reference: Reference, limits: Limits) -> Result:
    one_moment = homes.share_a_moment(reference)

    def answer(side: Side) -> Outcome:
        ends = homes.end(reference.table, side), homes.end(reference.references, side)
        return orphans(side, reference, *ends, limits, one_moment=one_moment)

    # Elsewhere rows refer at once to what the open side has; the closed side has it a moment later.
    sides = tuple(Side) if one_moment else (homes.barrier.open_side,)
    return Result(replace(as_invariant(reference), sides=sides), tuple(map(answer, sides)))


@dataclass
class _Homes:
    """Sessions by the database that they are in."""

    context: Context
    both: Databases
    barrier: Barrier
    stack: ExitStack
    _ends: dict[str, End] = field(default_factory=dict)

    def end(self, table: TableName, side: Side) -> End:
        """Where ``table`` is read for ``side``: there, or where it lives."""
        if table in self.context.table_names:
            return self._on_side(side)
        owner = self._owner(table)
        return self._on_side(Side.SHARED) if owner is None else self._elsewhere(owner)

    def share_a_moment(self, reference: Reference) -> bool:
        """Whether both ends, on both sides, are read at the barrier's moment: the shared side is open and has them."""
        ends = (reference.table, reference.references)
        stays = [table for table in ends if table not in self.context.table_names]
        return self.barrier.open_side is Side.SHARED and all(self._owner(table) is None for table in stays)

    def _owner(self, table: TableName) -> Context | None:
        """The context whose service database holds the table's writes now; None where the shared database does."""
        for other in neighbours(self.context):
            if table in other.table_names:
                with self.both.shared.connect("references") as conn:
                    migration = migrations.read(conn, other.name)
                moved = migration.open_side is Side.SERVICE or migration.state is State.COMPLETED
                return other if moved else None
        return None

    def _on_side(self, side: Side) -> End:
        snapshot = self.barrier.open if side is self.barrier.open_side else self.barrier.closed
        if side not in self._ends:
            session = self.stack.enter_context(imported(snapshot, "references"))
            self._ends[side] = End(session, lambda: _now(self.both[side]))
        return self._ends[side]

    def _elsewhere(self, owner: Context) -> End:
        if owner.name not in self._ends:
            database = service_database(owner)
            session = self.stack.enter_context(_now(database))
            self._ends[owner.name] = End(session, lambda: _now(database))
        return self._ends[owner.name]


@contextmanager
def _now(database: Database) -> Iterator[Connection]:
    with database.connect("references", autocommit=False) as session:
        session.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        session.read_only = True
        yield session
        session.rollback()
