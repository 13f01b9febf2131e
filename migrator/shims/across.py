"""The commit of a session's transaction that may have been in several places.

What it wrote is asked of the servers, which know it also of raw SQL, triggers and functions. One place alone: commit,
in lockstep too. Several: as the application chose. Two-phase is lockstep's own protocol: every service side is
prepared, the shared side's commit is the decision and its witness a row there, and the worker of each context ends what
a dead application left prepared. So nothing needs configuring on the shared server.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import Connection, event

from contexts.errors import RefusedError
from contexts.killpoints import kill_point
from contexts.names import TableName
from migrator.shims.engine import as_sqlalchemys, entered
from migrator.shims.gate import Mode
from migrator.shims.link import Link, closed_on_failure
from migrator.shims.lockstep import Prepared, commit_all
from migrator.shims.places import Place, Places, Routes

#: Tables that the transaction has changed, or locked rows of; none where it was given no transaction id.
_WRITTEN = (
    "SELECT n.nspname, c.relname FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE l.pid = pg_catalog.pg_backend_pid()"
    " AND l.mode NOT IN ('AccessShareLock', 'SIReadLock') AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'"
    " AND n.nspname NOT IN ('carveout', 'pg_catalog') AND pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL"
    " GROUP BY 1, 2 ORDER BY 1, 2"
)


class Across(enum.StrEnum):
    """What becomes of a transaction that has written in several places."""

    #: It is refused before anything is committed.
    REFUSE = "refuse"
    #: All of it is committed, or nothing.
    TWO_PHASE = "two-phase"
    #: It is refused, and the error leads to Try, Confirm, Cancel.
    TCC = "tcc"


_INSTEAD = {
    Across.REFUSE: "split the transaction, or choose what becomes of it: docs/howto/several-contexts.md",
    Across.TCC: "write it as Try, Confirm, Cancel (migrator.tcc): docs/howto/tcc.md",
}


class CutRefused(RefusedError):
    """A transaction has written in several places: nothing of it is committed anywhere."""


class Spanning:
    """The connections of one transaction of a session, by place."""

    def __init__(self, places: Places, across: Across) -> None:
        self.connections: dict[Place, Connection] = {}
        self._places = places
        self._across = across
        self._is_over = False

    def join(self, place: Place, connection: Connection) -> None:
        """Another place takes part."""
        self.connections[place] = connection
        event.listen(connection, "commit", self.commit)

    def commit(self, _connection: Connection) -> None:
        """With the first commit of a connection, commit all; SQLAlchemy's own commits then find nothing to do.

        :raises CutRefused: it has written in several places, and that is not wanted.
        :raises sqlalchemy.exc.DBAPIError: a server refused; nothing is committed.
        """
        if self._is_over:
            return
        self._is_over = True
        with as_sqlalchemys("commit in several places"):
            written = self._written() if len(self.connections) > 1 else {}
            moved = [place for place in written if place is not None] if len(written) > 1 else []
            if moved and self._across is not Across.TWO_PHASE:
                raise self._refused(written)
            with self._deciding(bool(moved)) as (shared, commit):
                commit_all([*self._lockstep(shared), *self._prepare(shared, moved)], commit)

    def _written(self) -> dict[Place, list[TableName]]:
        found = {
            place: [TableName(*row) for row in self._link(connection).run(_WRITTEN)]
            for place, connection in self.connections.items()
        }
        return {place: tables for place, tables in found.items() if tables}

    @contextmanager
    def _deciding(self, needed: bool) -> Iterator[tuple[Link | None, Callable[[], object]]]:
        """The transaction on the shared side and its commit; one of its own where the session has none there."""
        if None in self.connections:
            raw: Any = self.connections[None].connection.dbapi_connection
            yield self._link(self.connections[None]), raw.commit
        elif not needed:
            yield None, lambda: None
        else:
            link = self._places.spare[None].take()
            with closed_on_failure(link):
                link.run("BEGIN")
                yield link, partial(link.run, "COMMIT")
            self._places.spare[None].give_back(link)

    def _lockstep(self, shared: Link | None) -> Iterator[Callable[[], Prepared | None]]:
        """What is written on the shared side goes to the service sides of the contexts that are in lockstep."""
        if shared is None or None not in self.connections:
            return
        told: Routes = entered(self.connections[None])
        for context, route in sorted(told.items()):
            if route.mode is Mode.LOCKSTEP:
                yield partial(self._places.lockstep[context].ship, shared)

    def _prepare(self, shared: Link | None, moved: list[str]) -> Iterator[Callable[[], Prepared | None]]:
        for context in moved:
            assert shared is not None
            yield partial(self._prepare_one, shared, context)

    def _prepare_one(self, shared: Link, context: str) -> Prepared:
        gid = shared.run("SELECT carveout.lockstep_decide(%s)", [context])[0][0]
        kill_point("cut.decision_written")
        links = self._places.spare[context]
        spare = links.take()  # before the decision: where it cannot be had, nothing is decided
        with closed_on_failure(spare):
            self._link(self.connections[context]).run(f"PREPARE TRANSACTION '{gid}'")
            kill_point("cut.prepared")
        return Prepared(context, gid, spare, links)

    def _link(self, connection: Connection) -> Link:
        return self._places.driver.link(connection.connection.dbapi_connection)

    def _refused(self, written: dict[Place, list[TableName]]) -> CutRefused:
        parts = [
            f"{', '.join(map(self._shown, tables))} in "
            + ("the shared database" if place is None else f"the service database of {place}")
            for place, tables in sorted(written.items(), key=lambda item: item[0] or "")
        ]
        return CutRefused(
            f"the transaction wrote {'; and '.join(parts)}",
            unchanged="nothing of it is committed, in no database",
            next_step=_INSTEAD[self._across],
        )

    def _shown(self, table: TableName) -> str:
        context = self._places.context_of.get(table)
        return f"{table} (context {context})" if context else f"{table} (no context)"
