"""The observer that keeps every change of the tables with versions."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections import defaultdict

from cdc.apply import Interest, Passed
from cdc.events import Missing, Row
from cdc.lsn import format_lsn
from cdc.state import position
from cdc.state.position import StreamId
from contexts.catalog import Table, read_tables
from contexts.databases import Connection, Database
from contexts.errors import StreamStopped
from contexts.model import Context, Side, TableName
from validations.history import tables
from validations.history.tables import Version

_log = logging.getLogger(__name__)


class HistoryRecorder:
    """Records one opened stream; see :class:`cdc.apply.Observer`."""

    def __init__(self, stream: StreamId, context: Context, service: Database, closed: Side) -> None:
        self._stream = stream
        self._context = context
        self._service = service
        self._is_closed = closed is Side.SERVICE
        self._tables: set[TableName] = set()
        self._found: dict[TableName, list[Version]] = defaultdict(list)
        #: A session of its own, where the stream writes to the other side.
        self._session: Connection | None = None

    def opened(self, conn: Connection, *, in_lockstep: bool) -> None:
        """Begin the versions of tables that have none, or whose columns have changed; in lockstep not yet.

        A baseline is of the rows at the stream's position, and there the closed side may be ahead of it.
        """
        wanted = tables.versioned(self._context)
        if self._is_closed:
            missing = self._missing(conn, wanted)
            if not in_lockstep:
                self._begin(conn, missing)
            elif missing:
                names = ", ".join(str(table.name) for table in missing)
                _log.warning("no versions of %s before lockstep is left and the worker started again", names)
                wanted = [name for name in wanted if name not in {table.name for table in missing}]
            self._tables = set(wanted)
            return
        for table in wanted:
            if tables.known(self._own_session(), self._stream.context, table) is None:
                _log.warning("%s has no baseline, which is made while the service side is closed: no versions", table)
            else:
                self._tables.add(table)

    def interest(self, table: TableName) -> Interest | None:
        """All columns of the tables with versions."""
        return Interest(whole=True) if table in self._tables else None

    def see(self, passed: Passed) -> None:
        """Keep one change."""
        passing = passed.passing
        at = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=passing.commit_time_us)
        self._found[passed.table].append(
            Version(
                format_lsn(passing.commit_lsn), passed.ordinal, passed.operation, passing.xid, at,
                _image(passed, passed.old), _image(passed, passed.new),
            )
        )  # fmt: skip

    def before_write(self, conn: Connection) -> None:
        """Write what was seen: with the rows, or before them into the other database."""
        session = conn if self._is_closed else self._own_session()
        for table, found in self._found.items():
            tables.add(session, self._stream.epoch, table, found)
        self._found.clear()

    def before_commit(self, conn: Connection) -> None:
        """Everything is written."""

    def committed(self) -> None:
        """The batch is committed."""

    def close(self) -> None:
        """End the session."""
        if self._session is not None:
            self._session.close()

    def _missing(self, conn: Connection, wanted: list[TableName]) -> list[Table]:
        """The tables without a baseline of the columns that they have now."""
        context = self._stream.context
        found = read_tables(conn, wanted).values()
        return [table for table in found if tables.known(conn, context, table.name) != tables.columns_of(table)]

    def _begin(self, conn: Connection, missing: list[Table]) -> None:
        stored = position.read(conn, self._stream)
        assert stored is not None  # the applier has just taken it
        for table in missing:
            _log.info("context %s: a baseline of %s", self._stream.context, table.name)
            tables.begin(conn, self._context, self._stream.epoch, format_lsn(stored.end_lsn), table)

    def _own_session(self) -> Connection:
        if self._session is None or self._session.closed:
            self._session = self._service.connect("versions")
        return self._session


def _image(passed: Passed, row: Row | None) -> str | None:
    if row is None:
        return None
    named = zip(passed.plan.relation.columns, row, strict=True)
    return json.dumps({column.name: _text(passed, column.name, value) for column, value in named})


def _text(passed: Passed, column: str, value: bytes | Missing | None) -> str | None:
    if isinstance(value, Missing):
        raise StreamStopped(
            f"versions of {passed.table}: the stream does not say what is in column {column} ({value!r})",
            unchanged="no row was written",
            next_step="check the replica identity of the table and the settings of the source",
        )
    return None if value is None else value.decode()
