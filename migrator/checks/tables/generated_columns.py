"""No generated column is part of a replica identity: it is not in the stream, so a row could not be found by it.

PostgreSQL 18 refuses every UPDATE and DELETE on such a table once it is published.
"""

from __future__ import annotations

from collections.abc import Iterator

from contexts.catalog import Table
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement

_REFUSES = 18


def check(environment: Environment) -> Iterator[Finding]:
    newest = max(environment.major(side) for side in Side)
    for table in environment.tables(Side.SHARED).values():
        generated = [column.name for column in table.columns if not column.is_written]
        in_key = [name for name in generated if name in (*table.primary_key, *table.identity_key)]
        if in_key:
            message = f"its key has the generated {_columns(in_key)}, which no stream carries"
            yield blocker(Side.SHARED, table.name, message, "give it a key of columns that are stored as given")
        elif generated and table.replica_identity == "f" and newest >= _REFUSES:
            message = (
                f"REPLICA IDENTITY FULL includes the generated {_columns(generated)}: PostgreSQL {_REFUSES} refuses"
            )
            message += " every UPDATE and DELETE once it is published"
            yield blocker(Side.SHARED, table.name, message, _fix(table))


def _columns(names: list[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _fix(table: Table) -> str:
    if table.primary_key:
        return statement("ALTER TABLE {} REPLICA IDENTITY DEFAULT", table.name)
    return f"-- {statement('ALTER TABLE {} ADD PRIMARY KEY (...)', table.name)} then REPLICA IDENTITY DEFAULT"
