"""The plan of each table's present relation, made against the closed side's catalog of that moment."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cdc.apply import fit
from cdc.apply.coverage import Coverage, Extent
from cdc.apply.plan import Plan, make_plan
from cdc.apply.target import is_owned, read_target
from cdc.apply.types import SourceTypes
from cdc.events import Relation
from contexts.databases import Connection
from contexts.errors import StreamStopped
from contexts.model import TableName

_log = logging.getLogger(__name__)


class Plans:
    """Plans by table; a relation that only repeats the last one of its table shares its plan."""

    def __init__(
        self,
        conn: Connection,
        context: str,
        tables: Sequence[TableName],
        coverage: Coverage,
        source: SourceTypes | None,
        converted: Sequence[TableName] = (),
    ) -> None:
        self._conn = conn
        self._context = context
        self._tables = tuple(tables)
        self._coverage = coverage
        self._source = source
        self._converted = frozenset(converted)
        self._latest: dict[TableName, Plan] = {}

    def latest(self, table: TableName) -> Plan | None:
        """The plan that the table's changes have had so far."""
        return self._latest.get(table)

    def known(self, relation: Relation) -> Plan | None:
        """The plan for ``relation`` where it is that of its table so far; the server is not asked."""
        plan = self._latest.get(relation.table)
        return plan if plan is not None and _same(plan.relation, relation) else None

    def of(self, relation: Relation) -> Plan:
        """The plan for ``relation``.

        :raises SchemaMismatch: the closed side does not have such a table, or the context does not.
        """
        plan = self.known(relation)
        if plan is None:
            plan = self._latest[relation.table] = self._make(relation)
        return plan

    def _make(self, relation: Relation) -> Plan:
        name = relation.table
        if not is_owned(self._conn, name, self._tables):
            raise fit.mismatch(name, "it is in the stream, but neither in the context nor a partition", self._context)
        target = read_target(self._conn, name)
        if target is None:
            raise fit.mismatch(name, "it is missing on the closed side", self._context)
        for column in fit.check(relation, target, self._source, self._context, converts=name in self._converted):
            _log.warning("context %s: table %s: %s: its text is read as that", self._context, name, column)
        plan = make_plan(relation, target, self._coverage.of(name))
        if not plan.is_keyed and plan.extent is Extent.PARTIAL:
            raise _not_in_cycles(name, self._context)
        return plan


def _same(one: Relation, other: Relation) -> bool:
    return (one.oid, one.replica_identity, one.columns) == (other.oid, other.replica_identity, other.columns)


def _not_in_cycles(name: TableName, context: str) -> StreamStopped:
    return StreamStopped(
        f"context {context!r}: table {name} has no key, so changes of a partly copied table cannot find their rows",
        unchanged="no row was written",
        next_step=f"give {name} a primary key, or raise options.max_snapshot_age_s so that one cycle copies it",
    )
