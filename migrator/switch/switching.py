"""``cutover`` and ``rollback`` as functions: the conditions, then the procedure."""

from __future__ import annotations

from contexts.model import Side
from migrator.control import locks
from migrator.lifecycle import State, require_state
from migrator.lockstep import phase
from migrator.run import Run
from migrator.switch import conditions, lastcheck, procedure
from migrator.switch.procedure import SwitchReport


def warnings(run: Run) -> list[str]:
    """What is to be done soon after a switch."""
    if locks.is_held(run.control, run.name, "worker"):
        return []
    closed = run.migration().closed_side
    return [f"no worker is running: until `carveout worker {run.name}` is, no write comes to the {closed} side"]


def switch(run: Run, to_side: Side) -> SwitchReport:
    """Open ``to_side``.

    :raises RefusedError: a condition does not hold; nothing was done.
    :raises CarveoutError: it went back; the side that was open is open.
    """
    state = run.migration().state
    starts = (State.STREAMING, State.LOCKSTEP) if to_side is Side.SERVICE else (State.SWITCHED,)
    require_state(run.name, state, *starts)
    conditions.require(run, to_side.other, to_side)
    if state is State.LOCKSTEP:
        phase.leave(run, "cutover")
    with lastcheck.prepared(run, to_side.other, to_side) as check:
        return procedure.execute(run, check.compare)
