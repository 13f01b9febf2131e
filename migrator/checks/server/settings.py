"""An application finds the same settings on both servers: how values look, how strict and how durable commits are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql

from contexts import sqlfiles
from contexts.databases import CONNECT_TIMEOUT_S
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, info, statement, warning

_SQL = sqlfiles.load("migrator.checks.server", "settings.sql")
_MATTERS = (
    "TimeZone", "DateStyle", "IntervalStyle", "bytea_output", "lc_monetary", "lc_numeric", "search_path",
    "default_text_search_config", "transform_null_equals", "array_nulls", "default_transaction_isolation",
    "default_transaction_read_only", "default_transaction_deferrable", "statement_timeout", "lock_timeout",
    "idle_in_transaction_session_timeout", "transaction_timeout", "synchronous_commit", "fsync", "full_page_writes",
)  # fmt: skip


def check(environment: Environment) -> Iterator[Finding]:
    shared, service = _seen_by_applications(environment, Side.SHARED), _seen_by_applications(environment, Side.SERVICE)
    for name in _MATTERS:
        if name in shared and name in service and shared[name][0] != service[name][0]:
            message = f"is {service[name][0]!r} here and {shared[name][0]!r} on the shared side"
            yield warning(Side.SERVICE, name, message, _fix(environment, name, *shared[name]))
    [there], [here] = (environment.row(s, sql.SQL("SELECT current_setting('max_connections')::int")) for s in Side)
    if here < there:
        fix = statement("ALTER SYSTEM SET max_connections = {}", sql.Literal(there)) + "\n-- then restart the server"
        yield info(Side.SERVICE, "max_connections", f"is {here}, the shared server's is {there}", fix)


def _seen_by_applications(environment: Environment, side: Side) -> Mapping[str, tuple[str, str]]:
    """Value and context of each setting in a session that pins nothing, without what our own role's settings add."""
    database = environment.databases[side]
    given: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "carveout/check"}
    try:
        with psycopg.connect(database.url, autocommit=True, **given) as conn:
            rows = conn.execute(_SQL["settings"], [list(_MATTERS)]).fetchall()
    except psycopg.OperationalError as error:
        raise database.connection_error(error) from error
    return {name: (value, context) for name, value, context in rows}


def _fix(environment: Environment, name: str, value: str, context: str) -> str:
    # A list of names is shown quoted as it must be written; any other value is one literal.
    wanted = sql.SQL(value) if name == "search_path" else sql.Literal(value)
    if context in ("user", "superuser"):
        return statement("ALTER DATABASE {} SET {} = {}", environment.database_name(Side.SERVICE), name, wanted)
    return statement("ALTER SYSTEM SET {} = {}", name, wanted) + "\nSELECT pg_catalog.pg_reload_conf();"
