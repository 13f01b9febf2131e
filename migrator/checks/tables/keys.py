"""Every table has a usable replica identity: without one, publishing it would break the application's own updates.

A deferrable primary key is none, nor is an index that is partial, on an expression, or over columns that may be null.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg import sql

from contexts import sqlfiles
from contexts.model import Side, TableName
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement

_SQL = sqlfiles.load("migrator.checks.tables", "keys.sql")
_ON_BOTH_SIDES = "-- where the context has its revisions already: the same in a revision, for the service side"


def check(environment: Environment) -> Iterator[Finding]:
    rows = environment.rows(Side.SHARED, _SQL["without_identity"], {"tables": environment.oids(Side.SHARED)})
    for schema, name, identity, key, deferrable, columns, indexes in rows:
        table = TableName(schema, name)
        message = f"{_why(identity, key, deferrable)}: once it is published, every UPDATE and DELETE on it fails"
        choices = list(_choices(table, key, deferrable, columns, indexes))
        yield blocker(Side.SHARED, table, message, "\n".join(["-- one of:", *choices, _ON_BOTH_SIDES]))


def _why(identity: str, key: str | None, deferrable: bool) -> str:
    if identity == "n":
        return "its replica identity is NOTHING"
    if identity == "i":
        return "the index of its replica identity is gone or invalid"
    return (
        f"its primary key {key} is deferrable, so it is no replica identity" if deferrable else "it has no primary key"
    )


def _choices(
    table: TableName, key: str | None, deferrable: bool, columns: Sequence[str], indexes: Sequence[str]
) -> Iterator[str]:
    if key and deferrable:
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        template = "ALTER TABLE {} DROP CONSTRAINT {}, ADD CONSTRAINT {} PRIMARY KEY ({})"
        yield statement(template, table, key, key, listed)
    elif key:
        yield statement("ALTER TABLE {} REPLICA IDENTITY DEFAULT", table)
    elif indexes:
        yield statement("ALTER TABLE {} ADD PRIMARY KEY USING INDEX {}", table, indexes[0])
    else:
        yield (
            "-- " + statement("ALTER TABLE {} ADD PRIMARY KEY (...)", table) + " with the columns that tell rows apart"
        )
    if indexes:
        yield statement("ALTER TABLE {} REPLICA IDENTITY USING INDEX {}", table, indexes[0])
    yield statement("ALTER TABLE {} REPLICA IDENTITY FULL", table) + " -- slow, and equal rows cannot be told apart"
