"""Statements for the tables of one schema, run in whatever session the application has open."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contexts import sqlfiles

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]*")
#: Runs a statement in the caller's open transaction and returns its rows, if it has any.
Execute = Callable[[str, Sequence[Any]], Sequence[Sequence[Any]]]


def statements_of(package: str, schema: str) -> Mapping[str, str]:
    """Every statement of a package's ``tables.sql``, by name, for the tables of a schema.

    :raises ValueError: the schema's name would need quotes.
    """
    if not _SCHEMA.fullmatch(schema):
        raise ValueError(f"{schema!r}: the schema of the tables has a plain name")
    named = sqlfiles.load(package, "tables.sql")
    return {name: text.as_string().replace("{schema}", schema) for name, text in named.items()}


def execute_of(session: Any) -> Execute:
    """How to run statements in the open transaction of psycopg's or SQLAlchemy's connection, or of a session."""
    connection = session.connection() if hasattr(session, "get_bind") else session
    run = getattr(connection, "exec_driver_sql", connection.execute)

    def execute(statement: str, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
        result = run(statement, tuple(parameters))
        has_rows = result.returns_rows if hasattr(result, "returns_rows") else result.description is not None
        rows: Sequence[Sequence[Any]] = result.fetchall() if has_rows else []
        return rows

    return execute
