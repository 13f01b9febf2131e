"""The share of read-only transactions that go to the service side while both sides are written."""

from __future__ import annotations

from psycopg import sql

from contexts.errors import ConfigError
from contexts.model import Side
from migrator.lifecycle import State, require_state
from migrator.run import Run


def parse(text: str) -> float:
    """``25`` or ``25%`` as a number.

    :raises ConfigError: no number from 0 to 100.
    """
    try:
        share = float(text.strip().removesuffix("%"))
    except ValueError:
        share = -1.0
    if not 0 <= share <= 100:
        raise ConfigError(f"--service {text}: a number from 0 to 100 is wanted", unchanged="nothing was changed")
    return share


def share(run: Run) -> float:
    """The share in force, in percent."""
    rows = run.executor.read(
        Side.SHARED, sql.SQL("SELECT service_reads FROM carveout.route WHERE context = %s"), (run.name,)
    )
    return float(rows[0][0]) if rows else 0.0


def set_share(run: Run, percent: float) -> None:
    """Tell the shims; each learns it with its next transaction.

    :raises RefusedError: the context is not in lockstep: the service side could be behind.
    """
    if percent:
        require_state(run.name, run.migration().state, State.LOCKSTEP)
    run.executor.write(
        Side.SHARED, sql.SQL("UPDATE carveout.route SET service_reads = %s WHERE context = %s"), (percent, run.name)
    )
