"""Entering and leaving lockstep: a closed gate, and one transaction on the shared side that decides.

That transaction holds everything: the triggers, the route's mode, the marker in the stream and the state. So a driver
that is killed leaves one phase or the other, never something between. What the service side must know comes before it
(and means nothing until the marker is applied there) or follows from the marker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import psycopg
from psycopg import sql

from contexts.errors import CarveoutError
from contexts.killpoints import kill_point
from contexts.model import Side
from migrator.control import migrations
from migrator.executor import retry_locks
from migrator.lifecycle import State, require_state
from migrator.lockstep import collecting, findings, install, reads
from migrator.run import Run
from migrator.shims.gate import FRESH_S
from migrator.sides import gate
from migrator.switch import blockers, fence, markers
from migrator.switch.markers import Marker

GATE_PATIENCE_S = 60.0
#: Kinds of markers: from here on the stream is audited, or applied again.
ENTERED, LEFT = "lockstep", "lockstep_off"


def enter(run: Run) -> float:
    """Begin to write both sides; returns how long writes waited, in milliseconds.

    :raises CarveoutError: it went back; the shared side is written as before.
    """
    require_state(run.name, run.migration().state, State.STREAMING)
    install.install(run)
    marker = markers.new(run.name, ENTERED)
    run.executor.write(
        Side.SERVICE,
        sql.SQL(
            "INSERT INTO carveout.lockstep (context, marker) VALUES (%s, %s)"
            " ON CONFLICT (context) DO UPDATE SET marker = excluded.marker"
        ),
        (run.name, marker.id),
    )
    kill_point("lockstep.announced")
    began = time.monotonic()
    deadline = began + run.context.options.switch_deadline_ms / 1000
    with _closed_gate(run):
        _decide(run, marker, State.LOCKSTEP, "lockstep", deadline)
        kill_point("lockstep.entered")
        try:
            run.executor.act(Side.SERVICE, "wait until the marker is applied", lambda: _drain(run, marker, deadline))
        except CarveoutError:
            _decide(run, markers.new(run.name, LEFT), State.STREAMING, "single", time.monotonic() + GATE_PATIENCE_S)
            raise
    return (time.monotonic() - began) * 1000


def leave(run: Run, reason: str) -> float:
    """Write the shared side only, and let the stream carry the rest; returns how long writes waited, in milliseconds.

    Touches the shared database only: it works while the service side is down.
    """
    require_state(run.name, run.migration().state, State.LOCKSTEP)
    _take_reads_back(run)
    began = time.monotonic()
    with _closed_gate(run):
        deadline = began + GATE_PATIENCE_S
        _decide(run, markers.new(run.name, LEFT), State.STREAMING, "single", deadline, reason=reason)
        kill_point("lockstep.left")
    return (time.monotonic() - began) * 1000


def _take_reads_back(run: Run) -> None:
    """Reads that go to the service side by share come back before it may fall behind."""
    if reads.share(run):
        reads.set_share(run, 0)
        run.executor.act(Side.SHARED, f"wait {2 * FRESH_S:g} s until every shim knows", lambda: time.sleep(2 * FRESH_S))


def stop(run: Run, reason: str) -> float:
    """Leave lockstep, or only stop observing; returns how long writes waited, in milliseconds."""
    if run.migration().state is State.LOCKSTEP:
        return leave(run, reason)
    observe(run, wanted=False)
    return 0.0


def observe(run: Run, *, wanted: bool) -> None:
    """Note in the stream who writes without the shim, or stop noting; nobody is refused."""
    require_state(run.name, run.migration().state, State.STREAMING)
    if wanted:
        install.install(run)
        run.executor.act(Side.SERVICE, "begin the census anew", lambda: _forget_writers(run))
    change = collecting.enable if wanted else collecting.disable

    def attempt() -> None:
        for table in run.tables(Side.SHARED):
            run.executor.write(Side.SHARED, change(table.identifier(), collecting.CENSUS))
        _set_mode(run, "observe" if wanted else "single")

    _with_locks(run, attempt, time.monotonic() + GATE_PATIENCE_S)


def _forget_writers(run: Run) -> None:
    findings.forget_writers(run.executor.connection(Side.SERVICE), run.name)


def _closed_gate(run: Run) -> AbstractContextManager[float]:
    options = run.context.options
    return gate.closed_gate(
        run.databases.shared, run.name, lock_timeout_ms=options.lock_timeout_ms,
        deadline=time.monotonic() + GATE_PATIENCE_S, dry=run.executor.dry,
    )  # fmt: skip


def _decide(run: Run, marker: Marker, state: State, mode: str, deadline: float, reason: str = "") -> None:
    """Change the phase in one transaction, which waits for the writers in flight."""
    entering = state is State.LOCKSTEP
    change = collecting.enable if entering else collecting.disable

    def attempt() -> None:
        for table in run.tables(Side.SHARED):
            for name in (collecting.GUARD, *collecting.TOUCH.values()):
                run.executor.write(Side.SHARED, change(table.identifier(), name))
            run.executor.write(Side.SHARED, collecting.disable(table.identifier(), collecting.CENSUS))
        _set_mode(run, mode)
        markers.emit(run.executor, Side.SHARED, marker)
        run.executor.act(
            Side.SHARED,
            f"state of {run.name}: {state}",
            lambda: migrations.transition(run.control, run.name, state, reason=reason),
        )

    _with_locks(run, attempt, deadline)


def _with_locks(run: Run, attempt: Callable[[], None], deadline: float) -> None:
    tables = run.tables(Side.SHARED)
    try:
        retry_locks(
            run.executor, Side.SHARED, "lockstep", attempt, lock_timeout_ms=run.context.options.lock_timeout_ms,
            deadline=deadline, on_blocked=partial(fence.cancel_autovacuum, run, Side.SHARED, tables),
        )  # fmt: skip
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        found = blockers.shown(blockers.on_tables(run, Side.SHARED))
        raise blockers.Blocked(
            f"context {run.name!r}: writers did not end in time: {found}",
            unchanged="the phase is as before",
            next_step="end those sessions, or try again when they are done",
        ) from error


def _set_mode(run: Run, mode: str) -> None:
    run.executor.write(
        Side.SHARED,
        sql.SQL(
            "UPDATE carveout.route SET mode = %s, mode_since = clock_timestamp(), service_reads = 0 WHERE context = %s"
        ),
        (mode, run.name),
    )


def _drain(run: Run, marker: Marker, deadline: float) -> None:
    markers.wait_applied(run.databases.service, marker, deadline)
