"""What ``ALTER ROLE ... SET`` gives a declared role on the shared side, it has on the service side as well."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts import sqlfiles
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, statement, warning

_SQL = sqlfiles.load("migrator.checks.access", "role_settings.sql")
#: Settings whose value is a list of names, written without quotes around the whole.
_NAME_LISTS = frozenset({"search_path", "session_preload_libraries", "local_preload_libraries", "temp_tablespaces"})


def check(environment: Environment) -> Iterator[Finding]:
    roles = sorted({grant.role for grant in environment.context.grants})
    here = {row[:2]: row[2] for row in environment.rows(Side.SERVICE, _SQL["settings"], [roles])}
    for role, name, value in environment.rows(Side.SHARED, _SQL["settings"], [roles]):
        if here.get((role, name)) != value:
            message = f"the setting {name} of the shared side is not the same here"
            yield warning(Side.SERVICE, f"role {role}", message, _fix(role, name, value))


def _fix(role: str, name: str, value: str) -> str:
    if "." in name:  # an application's own setting may hold a secret
        return f"set {name} for the role as on the shared side (its value is not shown here)"
    wanted = sql.SQL(value) if name in _NAME_LISTS else sql.Literal(value)
    return statement("ALTER ROLE {} SET {} = {}", role, name, wanted)
