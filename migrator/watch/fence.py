"""Whether the closed side stays closed: its triggers stand as they were made, and nobody wrote past them.

A write in an ordinary session is refused. One in replica role is noted by the second trigger. What could switch both
off (``ALTER TABLE ... DISABLE TRIGGER``, a restore, a table made anew, a partition without triggers) shows in the
catalog, even where it was put back before the next look, and is mended here. The README says what is not seen.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from contexts import sqlfiles
from contexts.catalog import Table
from contexts.databases import Connection
from contexts.model import Side
from migrator.executor import Executor
from migrator.sides import route, writelock
from migrator.sides.writelock import NOTE_TRIGGER, TRIGGER

_SQL = sqlfiles.load("migrator.watch", "watch.sql")
#: ``pg_trigger.tgenabled`` of a closed table: each fires in the sessions that it is for, or in all.
_STANDS = {TRIGGER: ("O", "A"), NOTE_TRIGGER: ("R", "A")}
Marks = dict[tuple[int, str], str]


@dataclass(frozen=True, slots=True)
class RogueWrite:
    """A statement that wrote to a closed table past its write lock."""

    table: str
    operation: str
    role: str
    application: str
    address: str
    at: dt.datetime

    def __str__(self) -> str:
        where = f"{self.application or 'no application name'}, {self.address}"
        return f"role {self.role} ({where}) wrote to {self.table} ({self.operation}) at {self.at.isoformat()}"


@dataclass
class FenceWatch:
    """Remembers the triggers between two looks; one for each time that the side is closed."""

    context: str
    side: Side
    _marks: Marks = field(default_factory=dict)

    def look(self, executor: Executor, tables: Sequence[Table], driver: int) -> list[str]:
        """What is new since the last look, a sentence each; triggers that do not stand are mended.

        :param driver: the side's newest driver, read before it was known that no switch is under way.
        """
        conn = executor.connection(self.side)
        found = list(self._triggers(executor, conn, tables, driver))
        return [*found, *map(str, _report(conn, self.context))]

    def _triggers(self, executor: Executor, conn: Connection, tables: Sequence[Table], driver: int) -> Iterator[str]:
        states, marks = _read_triggers(conn, tables)
        known = self._marks
        for table in tables:
            broken = [name for name in _STANDS if states.get((table.oid, name)) not in _STANDS[name]]
            touched = [n for n in _STANDS if (key := (table.oid, n)) in known and known[key] != marks.get(key)]
            if broken:
                if said := self._mended(executor, table, driver):
                    yield f"{table.name}: {' and '.join(broken)} did not stand; {said}"
            elif touched:
                yield f"{table.name}: {' and '.join(touched)} was taken off and put back since the last look"
        self._marks = _read_triggers(conn, tables)[1]

    def _mended(self, executor: Executor, table: Table, driver: int) -> str | None:
        """What came of it; None where a switch is under way, which decides itself what stands."""
        try:
            with executor.transaction(self.side):
                executor.write(self.side, sql.SQL("SET LOCAL lock_timeout = '250ms'"))
                # No driver can open the side until this ends, and none has begun to.
                if route.driver(executor, self.side, self.context, hold=True) != driver:
                    return None
                writelock.create(executor, self.side, self.context, table, closed=True)
        except psycopg.Error as error:
            return f"it could not be put right: {' '.join(str(error).split())}"
        return "it was put right: verify again"


def rogue_writes(conn: Connection, context: str) -> list[RogueWrite]:
    """The writes past the lock that were noted, the newest first, at most 100."""
    return [RogueWrite(*row) for row in conn.execute(_SQL["rogue_writes"], [context]).fetchall()]


def _report(conn: Connection, context: str) -> list[RogueWrite]:
    """Those that nobody was told of yet; from now on they are told."""
    return [RogueWrite(*row) for row in conn.execute(_SQL["report"], [context]).fetchall()]


def _read_triggers(conn: Connection, tables: Sequence[Table]) -> tuple[dict[tuple[int, str], str], Marks]:
    rows = conn.execute(_SQL["triggers"], [[table.oid for table in tables]]).fetchall()
    return {(oid, name): state for oid, name, state, _ in rows}, {(oid, name): mark for oid, name, _, mark in rows}
