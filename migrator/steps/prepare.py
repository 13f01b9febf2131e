"""``prepare`` and ``abort``: the same steps, forwards and backwards."""

from __future__ import annotations

import logging
from functools import partial

from contexts.errors import RefusedError
from contexts.model import Side
from migrator import outbox
from migrator.control import migrations
from migrator.lifecycle import State, require_state
from migrator.lockstep import phase
from migrator.run import Run
from migrator.steps.preparation import PREPARATION
from migrator.steps.quiet import await_worker

_log = logging.getLogger(__name__)


def prepare(run: Run) -> None:
    """Make everything that the copy needs; the application notices nothing. Run again, it goes on.

    :raises RefusedError: the migration is past this.
    """
    require_state(run.name, run.migration().state, State.PLANNED, State.ABORTED, State.PREPARED)
    for step in PREPARATION:
        _log.info("context %s: %s", run.name, step.name)
        step.apply(run)
    run.executor.act(
        Side.SHARED,
        f"state of {run.name}: prepared",
        lambda: _transition(run, State.PREPARED),
    )


def abort(run: Run) -> None:
    """Give the migration up while the shared side is open: everything that Carveout made for it is removed.

    :raises RefusedError: the service side is open (roll back first), or the migration is over.
    """
    state = run.migration().state
    if state is State.SWITCHED:
        raise RefusedError(
            f"context {run.name!r} is {state}: aborting now would lose the writes of the service side",
            unchanged="nothing was changed",
            next_step=f"carveout rollback {run.name}",
        )
    require_state(
        run.name, state, State.PLANNED, State.PREPARED, State.COPYING, State.STREAMING, State.LOCKSTEP,
        State.ABORTING, State.ABORTED,
    )  # fmt: skip
    if state in (State.PLANNED, State.ABORTED):
        return
    if state is State.LOCKSTEP:
        phase.leave(run, "aborted")
    run.executor.act(Side.SHARED, f"state of {run.name}: aborting", lambda: _transition(run, State.ABORTING))
    run.executor.act(None, "wait until the worker has let go of the copy and the stream", partial(await_worker, run))
    outbox.warn_of_waiting(run)
    for step in reversed(PREPARATION):
        _log.info("context %s: undo %s", run.name, step.name)
        step.undo(run)
    run.executor.act(Side.SHARED, f"state of {run.name}: aborted", lambda: _transition(run, State.ABORTED))


def _transition(run: Run, state: State) -> None:
    migrations.transition(run.control, run.name, state)
