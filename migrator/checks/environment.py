"""What the checks look at: the context, both databases, and what their catalogs say, read once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from psycopg import sql

from contexts import catalog
from contexts.catalog import Table
from contexts.databases import Connection, Databases, databases
from contexts.model import Context, Project, Side, TableName
from migrator.control import migrations
from migrator.lifecycle import State

#: The checks write nothing: the server itself refuses it. They also never wait long behind somebody's lock.
SESSION_SETTINGS: Mapping[str, str] = {
    "default_transaction_read_only": "on",
    "lock_timeout": "2s",
    "statement_timeout": "30s",
}
_SYSTEM_IDENTIFIER = sql.SQL("SELECT system_identifier::text FROM pg_control_system()")


@dataclass(frozen=True)
class Environment:
    """Read-only sessions on both sides of one context, and what every check needs to know."""

    context: Context
    databases: Databases
    shared: Connection
    service: Connection

    def connection(self, side: Side) -> Connection:
        """The session on ``side``."""
        return self.shared if side is Side.SHARED else self.service

    def rows(
        self, side: Side, query: sql.SQL | sql.Composed, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> list[tuple[Any, ...]]:
        """The rows of a query on ``side``."""
        return self.connection(side).execute(query, parameters or None).fetchall()

    def row(
        self, side: Side, query: sql.SQL | sql.Composed, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> tuple[Any, ...]:
        """The only row of a query on ``side``."""
        [row] = self.rows(side, query, parameters)
        return row

    def major(self, side: Side) -> int:
        """The server's major version."""
        return self.connection(side).info.server_version // 10_000

    def tables(self, side: Side) -> Mapping[TableName, Table]:
        """The context's tables that exist on ``side``, with all partitions."""
        return self._shared_tables if side is Side.SHARED else self._service_tables

    def oids(self, side: Side) -> list[int]:
        """The identifiers of :meth:`tables`."""
        return [table.oid for table in self.tables(side).values()]

    def mover(self, side: Side) -> str:
        """The role that Carveout itself logs in with."""
        return str(self.row(side, sql.SQL("SELECT current_user"))[0])

    def database_name(self, side: Side) -> str:
        """The name of the database on its server."""
        return self.connection(side).info.dbname

    @property
    def context_file(self) -> str:
        """The file in which the context is declared."""
        return f"{self.context.folder.name or self.context.name}/context.toml"

    @cached_property
    def same_server(self) -> bool:
        """Whether both databases live in one cluster, and so share its slots, senders and connections."""
        return len({self.row(side, _SYSTEM_IDENTIFIER)[0] for side in Side}) == 1

    @cached_property
    def state(self) -> State:
        """Where the migration of the context stands."""
        return migrations.read(self.shared, self.context.name).state

    @property
    def started(self) -> bool:
        """Whether the copy has begun, so that slots and rows of ours are where they belong."""
        return self.state not in (State.PLANNED, State.PREPARED, State.ABORTED)

    @cached_property
    def _shared_tables(self) -> Mapping[TableName, Table]:
        return catalog.read_tables(self.shared, self.context.table_names)

    @cached_property
    def _service_tables(self) -> Mapping[TableName, Table]:
        return catalog.read_tables(self.service, self.context.table_names)


@contextmanager
def opened(project: Project, context: Context) -> Iterator[Environment]:
    """Connect to both sides.

    :raises ConfigError: a URL cannot be used.
    :raises DatabaseUnreachable: a server did not answer.
    :raises AccessDenied: a server refused the login.
    """
    sides = databases(project, context)
    with (
        sides.shared.connect("check", autocommit=True, **SESSION_SETTINGS) as shared,
        sides.service.connect("check", autocommit=True, **SESSION_SETTINGS) as service,
    ):
        yield Environment(context, sides, shared, service)
