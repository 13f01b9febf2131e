"""The clocks of both servers agree: lag in seconds is the one server's commit time seen by the other's clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

from psycopg import sql

from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, warning

TOLERATED_S = 1.0


def check(environment: Environment) -> Iterator[Finding]:
    ahead = _ahead_of_here_s(environment, Side.SERVICE) - _ahead_of_here_s(environment, Side.SHARED)
    if abs(ahead) > TOLERATED_S:
        relation = "ahead of" if ahead > 0 else "behind"
        message = f"the service server's clock is {abs(ahead):.1f} s {relation} the shared server's: lag is misjudged"
        yield warning(None, "clock", message, "synchronise the clocks of both servers (NTP)")


def _ahead_of_here_s(environment: Environment, side: Side) -> float:
    """The server's clock against ours in seconds, with the time of the question taken out."""
    started = time.time()
    [server] = environment.row(side, sql.SQL("SELECT extract(epoch FROM clock_timestamp())::float8"))
    return float(server) - (started + time.time()) / 2
