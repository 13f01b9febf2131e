"""Who still uses the closed tables: counted attempts to write, sessions seen at work, statements in the statistics."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from contexts import sqlfiles
from contexts.databases import Connection
from migrator.watch import attempts

_SQL = sqlfiles.load("migrator.watch", "watch.sql")
#: The statistics of statements are looked at once in so many looks.
STATEMENTS_EVERY = 10
#: What stands in place of a role where attempts came faster than they could be told apart.
UNTOLD = "(more than could be told apart)"


@dataclass(frozen=True, slots=True)
class Straggler:
    """Somebody who used a closed table; what is not known is empty."""

    #: ``refused``: a write was refused; ``write``/``read``: a session was seen holding the table's lock;
    #: ``statement``: the server's statistics counted a statement that names the table.
    kind: str
    role: str
    application: str
    address: str
    table: str
    #: Attempts, looks at which it was seen, or calls.
    times: int
    first_seen: dt.datetime
    last_seen: dt.datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen since the side was closed."""

    since: dt.datetime | None
    looked_at: dt.datetime | None
    looks: int
    stragglers: tuple[Straggler, ...]


@dataclass
class Collector:
    """Looks at the closed side again and again, and adds to ``carveout.straggler``."""

    context: str
    _calls: dict[tuple[str, str], int] | None = None
    _looks: int = field(default=0)

    def look(self, conn: Connection, epoch: int, tables: Sequence[int]) -> None:
        """One look at the closed side's tables (by oid), in one transaction."""
        now = attempts.read(conn)
        with conn.transaction():
            is_first = self._begin(conn, epoch)
            for kind, *who in conn.execute(_SQL["sessions"], [list(tables)]).fetchall():
                self._saw(conn, kind, who)
            self._refused(conn, now, tables, is_first=is_first)
        if self._looks % STATEMENTS_EVERY == 0:
            self._statements(conn, tables)
        self._looks += 1

    def _begin(self, conn: Connection, epoch: int) -> bool:
        if not conn.execute(_SQL["begin"], {"context": self.context, "epoch": epoch}).fetchone():
            return False
        conn.execute(_SQL["forget"], [self.context])
        self._calls = None
        return True

    def _refused(self, conn: Connection, now: attempts.Attempts, tables: Sequence[int], *, is_first: bool) -> None:
        row = conn.execute(_SQL["looked"], {"context": self.context, "attempts": now.number}).fetchone()
        assert row is not None
        found = attempts.newest(conn, now, row[0], tables)
        for one in found:
            self._saw(conn, "refused", (one.role, one.application, one.address, one.table))
        untold = now.number - row[0] - attempts.PLACES
        if found and untold > 0 and not is_first:  # at first the number is that of all time
            self._saw(conn, "refused", (UNTOLD, "", "", ""), untold)

    def _statements(self, conn: Connection, tables: Sequence[int]) -> None:
        """Calls since the last time; what was counted while nobody looked is not known."""
        try:
            with conn.transaction():
                calls = _calls(conn, tables)
        except psycopg.Error:  # the library is not loaded, or the view is not ours to read
            return
        before, self._calls = self._calls, calls
        for (role, table), times in calls.items():
            if before is not None and (more := times - before.get((role, table), 0)) > 0:
                self._saw(conn, "statement", (role, "", "", table), more)

    def _saw(self, conn: Connection, kind: str, who: Iterable[str], times: int = 1) -> None:
        role, application, address, table = who
        arguments: dict[str, Any] = {"context": self.context, "kind": kind, "role": role, "times": times}
        conn.execute(_SQL["saw"], {**arguments, "application": application, "address": address, "table": table})


def _calls(conn: Connection, tables: Sequence[int]) -> dict[tuple[str, str], int]:
    schema = conn.execute(_SQL["statements_schema"]).fetchone()
    if schema is None:
        return {}
    query = _SQL["statements"].format(schema=sql.Identifier(schema[0]))
    return {(role, table): calls for role, table, calls in conn.execute(query, [list(tables)]).fetchall()}


def read(conn: Connection, context: str) -> Seen:
    """What was seen so far, the newest first."""
    watched = conn.execute(_SQL["watched"], [context]).fetchone()
    found = tuple(Straggler(*row) for row in conn.execute(_SQL["seen"], [context]).fetchall())
    since, looked_at, looks = watched or (None, None, 0)
    return Seen(since, looked_at, looks, found)
