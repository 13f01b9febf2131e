"""Our own sessions reach the server itself: a pooler in between loses session settings, locks and slots."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from contexts.databases import PINNED_SETTINGS
from contexts.model import Side
from migrator.checks.environment import SESSION_SETTINGS, Environment
from migrator.checks.model import Finding, blocker

_FIX = "put the server's own address and port, not the pooler's, into the URL; applications may keep theirs"
_PID = sql.SQL("SELECT pg_backend_pid()")


def check(environment: Environment) -> Iterator[Finding]:
    for side in Side:
        if lost := _settings_not_in_force(environment, side):
            message = f"settings given at the start of our session are not in force: {', '.join(lost)}"
            yield blocker(side, "connection", message, _FIX)
        if _backend_changes(environment, side):
            yield blocker(side, "connection", "one session is served by several backends: transaction pooling", _FIX)


def _settings_not_in_force(environment: Environment, side: Side) -> list[str]:
    wanted = {**PINNED_SETTINGS, **SESSION_SETTINGS}
    query = sql.SQL("SELECT name, current_setting(name, true) FROM unnest(%s::text[]) AS name")
    in_force = dict(environment.rows(side, query, [list(wanted)]))
    # DateStyle is shown with the order of day and month, which the pin leaves alone.
    return [
        name for name, value in wanted.items() if value not in (in_force[name], (in_force[name] or "").split(",")[0])
    ]


def _backend_changes(environment: Environment, side: Side) -> bool:
    """Whether a second session's transaction takes our backend away: it cannot without a pooler."""
    before = environment.row(side, _PID)
    with environment.databases[side].connect("check", autocommit=False, **SESSION_SETTINGS) as other:
        borrowed = other.execute(_PID).fetchone()
        return environment.row(side, _PID) != before or borrowed == before
