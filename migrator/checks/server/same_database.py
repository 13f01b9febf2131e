"""The two sides are two databases; on one server, they share its slots, connections, disk and failures."""

from __future__ import annotations

from collections.abc import Iterator

from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, blocker, info


def check(environment: Environment) -> Iterator[Finding]:
    if not environment.same_server:
        return
    name = environment.database_name(Side.SHARED)
    if name == environment.database_name(Side.SERVICE):
        message = "the shared and the service URL name one and the same database"
        yield blocker(
            None, name, message, f"create a database for the service, set service.url in {environment.context_file}"
        )
    else:
        message = "both databases live on one server: they share its slots, connections, WAL and disk, and its failures"
        yield info(None, "server", message, "nothing to do, if that is meant")
