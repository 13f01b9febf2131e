"""Waiting until the worker has let go: what it still writes or reads cannot be removed under it."""

from __future__ import annotations

import time

from psycopg import sql

from contexts.errors import RefusedError
from contexts.model import Side
from migrator.control import locks
from migrator.lifecycle import way_on
from migrator.run import Run

PATIENCE_S = 30.0
# A report from before the state's change is about the work before.
_WAITS = sql.SQL(
    "SELECT EXISTS (SELECT FROM carveout.worker w JOIN carveout.migration m USING (context)"
    " WHERE context = %s AND w.seen_at > m.updated_at AND w.report ->> 'phase' IN ('waiting', 'retrying', 'stopped'))"
)


def await_worker(run: Run) -> None:
    """Wait until the worker has seen the new state and reports that it waits; nothing to do where none runs.

    :raises RefusedError: it goes on for too long.
    """
    deadline = time.monotonic() + PATIENCE_S
    while locks.is_held(run.control, run.name, "worker") and not _waits(run):
        if time.monotonic() > deadline:
            raise RefusedError(
                f"context {run.name!r}: the worker has not ended its work within {PATIENCE_S:.0f} s",
                unchanged="nothing was dropped",
                next_step=f"stop the worker, then {way_on(run.name, run.migration().state)}",
            )
        time.sleep(0.1)


def _waits(run: Run) -> bool:
    return bool(run.executor.read(Side.SHARED, _WAITS, (run.name,))[0][0])
