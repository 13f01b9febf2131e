"""Every extension that the tables use can be had, and is installed, on the service side."""

from __future__ import annotations

from collections.abc import Iterator

from contexts import sqlfiles
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, statement, warning

_SQL = sqlfiles.load("migrator.checks.server", "extensions.sql")


def check(environment: Environment) -> Iterator[Finding]:
    used = environment.rows(Side.SHARED, _SQL["used"], {"tables": environment.oids(Side.SHARED)})
    there = {row[0]: row[1:] for row in environment.rows(Side.SERVICE, _SQL["offered"], [[row[0] for row in used]])}
    for name, version, schema, tables in used:
        users = ", ".join(tables)
        offered, installed = there.get(name, (None, None))
        if offered is None:
            message = f"is used by {users} in version {version}; this server does not offer it"
            yield blocker(Side.SERVICE, f"extension {name}", message, "install its package on the service's server")
        elif installed is None:
            message = f"is used by {users}, and not installed here (version {offered} can be had)"
            yield blocker(Side.SERVICE, f"extension {name}", message, _install(name, schema))
        elif installed != version:
            message = f"has version {installed} here and {version} on the shared side; {users} use it"
            yield warning(Side.SERVICE, f"extension {name}", message, statement("ALTER EXTENSION {} UPDATE", name))


def _install(name: str, schema: str) -> str:
    if schema == "pg_catalog":
        return statement("CREATE EXTENSION {}", name)
    create_schema = statement("CREATE SCHEMA IF NOT EXISTS {}", schema)
    return f"{create_schema}\n{statement('CREATE EXTENSION {} WITH SCHEMA {}', name, schema)}"
