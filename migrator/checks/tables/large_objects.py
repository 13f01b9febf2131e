"""No column refers to large objects: they live outside the table, in no stream, and would stay behind."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement, warning

_OID = 26  # pg_catalog.oid
_EXIST = sql.SQL("SELECT EXISTS (SELECT FROM pg_largeobject_metadata)")


def check(environment: Environment) -> Iterator[Finding]:
    columns = [
        (name, column)
        for name, table in environment.tables(Side.SHARED).items()
        for column in table.columns
        if column.base_type_oid == _OID
    ]
    if not columns or not environment.row(Side.SHARED, _EXIST)[0]:
        return
    for name, column in columns:
        template = "ALTER TABLE {} ALTER COLUMN {} TYPE bytea USING pg_catalog.lo_get({}::oid)"
        fix = statement(template, name, column.name, column.name)
        if column.type_oid == _OID:
            message = f"{column.name} is an oid, and this database has large objects: if it refers to them, they stay"
            yield warning(Side.SHARED, name, message, fix)
        else:
            message = f"{column.name} ({column.type_sql}) refers to large objects, which do not move"
            yield blocker(Side.SHARED, name, message, fix)
