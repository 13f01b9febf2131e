"""A table with versions has a primary key, is no partitioned one, and the name of its versions is free and fits."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts.catalog import Table
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement
from validations.history.tables import name_of, versioned

_LONGEST = 63
_EXISTS = sql.SQL(
    "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = %s AND c.relname = %s"
)


def check(environment: Environment) -> Iterator[Finding]:
    tables = environment.tables(Side.SHARED)
    for name in versioned(environment.context):
        if (table := tables.get(name)) is None:  # a missing one is the business of the check `tables`
            continue
        for message in _problems(table):
            fix = f"in {environment.context_file}: remove versions = true from {name}"
            yield blocker(Side.SHARED, name, f"no versions can be kept: {message}", fix)
        versions = name_of(name)
        if not environment.started and environment.rows(Side.SERVICE, _EXISTS, tuple(versions)):
            message = "exists already, where the versions are to be kept"
            fix = f"-- look at it first:\n-- {statement('DROP TABLE {}', versions)}"
            yield blocker(Side.SERVICE, versions, message, fix)


def _problems(table: Table) -> Iterator[str]:
    if table.kind == "p":
        yield "it is partitioned, and a row that moves between partitions is deleted and inserted"
    elif not table.primary_key:
        yield "it has no primary key, so a version has no row"
    if len(name_of(table.name).name.encode()) > _LONGEST:
        yield f"the name of the table of versions has more than {_LONGEST} bytes"
