"""The lifecycle of a migration: one enum, one table of transitions."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from contexts.errors import RefusedError


class Work(enum.Enum):
    """What a worker does."""

    COPY = enum.auto()
    FOLLOW = enum.auto()
    WAIT = enum.auto()
    END = enum.auto()


class State(enum.StrEnum):
    """Where a migration stands. All members are stored in ``carveout.migration.state``."""

    #: Set by nobody: a context that has no row yet.
    PLANNED = "planned"
    #: Set by ``prepare``. The worker waits for it to begin the copy.
    PREPARED = "prepared"
    #: Set by the worker when the slot exists. Nobody waits for it.
    COPYING = "copying"
    #: Set by the worker when the copy is done, and by a rollback. ``verify`` and ``cutover`` wait for it.
    STREAMING = "streaming"
    #: Set by ``dual-write on``: applications write both sides. ``dual-write off`` and ``cutover`` lead on.
    LOCKSTEP = "lockstep"
    #: Set by the switch for the time that it runs. ``resume`` waits for it when the driver has died.
    SWITCHING = "switching"
    #: Set by a cutover. ``rollback`` and ``complete`` wait for it.
    SWITCHED = "switched"
    #: Set by ``complete`` before it drops anything; only forward from here.
    COMPLETING = "completing"
    #: Set by ``complete`` at its end. Final.
    COMPLETED = "completed"
    #: Set by ``abort`` before it removes anything; only forward from here.
    ABORTING = "aborting"
    #: Set by ``abort`` at its end; ``prepare`` may begin again.
    ABORTED = "aborted"

    @property
    def work(self) -> Work:
        """What the worker does in this state."""
        match self:
            case State.PREPARED | State.COPYING:
                return Work.COPY
            case State.STREAMING | State.LOCKSTEP | State.SWITCHING | State.SWITCHED:
                return Work.FOLLOW
            case State.PLANNED | State.COMPLETING | State.ABORTING:
                return Work.WAIT
            case State.COMPLETED | State.ABORTED:
                return Work.END

    @property
    def streams(self) -> bool:
        """Whether the worker follows the open side in this state."""
        return self.work is Work.FOLLOW

    @property
    def has_stream(self) -> bool:
        """Whether there is a stream: from the copy on its slot keeps log, or a connector reads it."""
        return self is State.COPYING or self.streams


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.PLANNED: frozenset({State.PREPARED, State.ABORTING}),
    State.PREPARED: frozenset({State.COPYING, State.ABORTING}),
    State.COPYING: frozenset({State.STREAMING, State.ABORTING}),
    State.STREAMING: frozenset({State.LOCKSTEP, State.SWITCHING, State.ABORTING}),
    State.LOCKSTEP: frozenset({State.STREAMING}),
    # Back where it came from, or on to the other side.
    State.SWITCHING: frozenset({State.STREAMING, State.SWITCHED}),
    State.SWITCHED: frozenset({State.SWITCHING, State.COMPLETING}),
    State.COMPLETING: frozenset({State.COMPLETED}),
    State.COMPLETED: frozenset(),
    State.ABORTING: frozenset({State.ABORTED}),
    State.ABORTED: frozenset({State.PREPARED}),
}


#: States that something half done leaves behind, with the command that ends it.
_UNFINISHED: Mapping[State, str] = {
    State.SWITCHING: "resume",
    State.COMPLETING: "complete",
    State.ABORTING: "abort",
}


def way_on(context: str, state: State) -> str:
    """The command that leads on from a state in which the wanted one was refused."""
    return f"carveout {_UNFINISHED.get(state, 'status')} {context}"


def require_transition(context: str, current: State, wanted: State) -> None:
    """Refuse a transition that is not in the table.

    :raises RefusedError: names the state and what is possible from it.
    """
    if wanted in TRANSITIONS[current]:
        return
    possible = ", ".join(sorted(TRANSITIONS[current])) or "nothing: it is final"
    raise RefusedError(
        f"context {context!r} is {current}; it cannot become {wanted} (possible: {possible})",
        unchanged="nothing was changed",
        next_step=way_on(context, current),
    )


def require_state(context: str, current: State, *allowed: State) -> None:
    """Refuse an action that does not fit the state.

    :raises RefusedError: names the state and those that the action needs.
    """
    if current not in allowed:
        raise RefusedError(
            f"context {context!r} is {current}; this needs {' or '.join(allowed)}",
            unchanged="nothing was changed",
            next_step=way_on(context, current),
        )
