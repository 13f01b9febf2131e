"""``cutover`` and ``rollback`` as functions: the conditions, then the procedure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from contexts.errors import ConfigError
from contexts.model import Side
from migrator.control import locks
from migrator.lifecycle import State, require_state
from migrator.lockstep import phase
from migrator.run import Run
from migrator.switch import blockers, conditions, lastcheck, procedure, tries
from migrator.switch.moves import SwitchReport, Terms
from migrator.traffic import traffic

NO_TERMS = Terms()


def warnings(run: Run) -> list[str]:
    """What is to be done soon after a switch."""
    if locks.is_held(run.control, run.name, "worker"):
        return []
    closed = run.migration().closed_side
    return [f"no worker is running: until `carveout worker {run.name}` is, no write comes to the {closed} side"]


def switch(run: Run, to_side: Side, terms: Terms = NO_TERMS) -> SwitchReport:
    """Open ``to_side``.

    :raises RefusedError: a condition does not hold; nothing was done.
    :raises CarveoutError: it went back; the side that was open is open.
    """
    return switch_together([run], to_side, terms)


def switch_together(runs: Sequence[Run], to_side: Side, terms: Terms = NO_TERMS) -> SwitchReport:
    """Open ``to_side`` of all these contexts in one step, or of none."""
    require_states(runs, to_side)
    for run in runs:
        if not run.executor.dry:
            blockers.await_no_queue(
                run, to_side.other,
                patience_s=run.context.options.hold_patience_s, terminate=terms.terminate_blockers,
            )  # fmt: skip
    led = traffic.declared(runs, to_side.other)
    conditions.require(runs, led)
    for run in runs:
        if run.migration().state is State.LOCKSTEP:
            phase.leave(run, "cutover")
        tries.drain(run, to_side.other)
    with ExitStack() as stack:
        checks = [stack.enter_context(lastcheck.prepared(run, to_side.other, to_side)) for run in runs]
        parts = [(run, check.compare) for run, check in zip(runs, checks, strict=True)]
        return procedure.execute(parts, led, terms)


def require_states(runs: Sequence[Run], to_side: Side) -> None:
    """Refuse a context that is not where a switch to ``to_side`` begins.

    :raises RefusedError: names it.
    """
    if len({run.name for run in runs}) < len(runs):
        raise ConfigError("a context is named twice", unchanged="nothing was changed")
    for run in runs:
        starts = (State.STREAMING, State.LOCKSTEP) if to_side is Side.SERVICE else (State.SWITCHED,)
        require_state(run.name, run.migration().state, *starts)
