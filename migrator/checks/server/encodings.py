"""The service database can hold every character of the shared one: UTF8, or the same encoding."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement

_ENCODING = sql.SQL("SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()")


def check(environment: Environment) -> Iterator[Finding]:
    [shared], [service] = environment.row(Side.SHARED, _ENCODING), environment.row(Side.SERVICE, _ENCODING)
    if shared == "SQL_ASCII":
        message = "is SQL_ASCII: its bytes have no declared meaning, so text cannot be carried safely"
        yield blocker(Side.SHARED, "encoding", message, "convert the shared database to UTF8 first")
    elif service not in ("UTF8", shared):
        message = f"is {service}, the shared side's is {shared}: some text could not be stored"
        create = statement(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", environment.database_name(Side.SERVICE)
        )
        yield blocker(Side.SERVICE, "encoding", message, f"-- in place of the present database:\n{create}")
