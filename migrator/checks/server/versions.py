"""Both servers are primaries of PostgreSQL 14 to 18, and the service side is not the older one."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, warning

SUPPORTED = range(14, 19)


def check(environment: Environment) -> Iterator[Finding]:
    shared, service = environment.major(Side.SHARED), environment.major(Side.SERVICE)
    for side, major in ((Side.SHARED, shared), (Side.SERVICE, service)):
        if major not in SUPPORTED:
            message = f"version {major} is not supported ({SUPPORTED[0]} to {SUPPORTED[-1]} are)"
            yield blocker(side, "server", message, f"use PostgreSQL {SUPPORTED[0]} to {SUPPORTED[-1]}")
        if environment.row(side, sql.SQL("SELECT pg_is_in_recovery()"))[0]:
            yield blocker(side, "server", "is a standby: it takes no writes", "put the primary's address into the URL")
    if service < shared:
        message = f"version {service} is older than the shared side's {shared}: it may lack what the tables use"
        yield warning(Side.SERVICE, "server", message, f"use PostgreSQL {shared} or later for the service database")
