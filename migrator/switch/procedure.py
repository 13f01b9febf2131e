"""The switch itself, for one context or several together; killed anywhere, ``resume`` ends it wholly or not at all.

Before the journal row ``committed`` everything here is taken back, after it everything is finished (:mod:`settle`).
Several contexts pass each step together, and one transaction commits them all.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence

from psycopg import sql

from contexts.errors import CarveoutError
from contexts.killpoints import kill_point
from contexts.model import Side
from migrator.control import switches
from migrator.control.migrations import Migration
from migrator.control.switches import Outcome, Switch
from migrator.run import Run
from migrator.switch import blockers, fence, markers, sequences, settle, wayback
from migrator.switch.moves import LastCheck, Limits, Move, Stopwatch, SwitchReport, Terms
from migrator.traffic.driver import TrafficBusy
from migrator.traffic.traffic import Traffic, nothing


class Interrupted(CarveoutError):
    """Somebody ended the driver, and the switch went back."""

    transient = True


def execute(parts: Sequence[tuple[Run, LastCheck]], traffic: Traffic, terms: Terms) -> SwitchReport:
    """Exchange the sides. The conditions have been checked by the caller.

    :param parts: each context's run, and its last check while no side is open.
    :param traffic: of these contexts; closed at the end.
    :raises CarveoutError: the switch went back; the side that was open is open.
    :raises OpenNotFinished: the other side is open.
    :raises NeedsHuman: the outcome is not known, or something that leads traffic must be repaired.
    """
    moves, watch = _begin(parts), Stopwatch()
    kill_point("switch.started")
    try:
        _prepare(moves, terms)
        _note(moves, traffic, watch)
        kill_point("switch.traffic_noted")
        _hold(moves, traffic, watch, terms)
        _exchange(moves, traffic, watch, terms)
    except BaseException as error:  # while transactions wait: they must not meet a closed side
        held = traffic if watch.traffic_noted else nothing(traffic.from_side)
        if settle.settle(moves, held, watch, error) is not Outcome.COMMITTED:
            if isinstance(error, KeyboardInterrupt):
                raise _interrupted(moves) from error
            raise
        watch.stop("open")
    finally:
        traffic.close()
    measured = {"write_block_ms": watch.blocked_ms(), **watch.parts, **watch.facts}
    settle.finish(moves, measured)
    names, switch = tuple(move.run.name for move in moves), moves[0].switch
    return SwitchReport(names, switch.from_side, switch.to_side, watch.blocked_ms(), watch.parts, watch.facts)


def _begin(parts: Sequence[tuple[Run, LastCheck]]) -> list[Move]:
    parts = sorted(parts, key=lambda part: part[0].name)
    migrations = [run.migration() for run, _ in parts]
    first = parts[0][0]
    if first.executor.dry:
        begun = [_pretended(first, migration) for migration in migrations]
    else:
        begun = switches.begin(first.control, migrations)
    return [Move(run, switch, check) for (run, check), switch in zip(parts, begun, strict=True)]


def _pretended(run: Run, migration: Migration) -> Switch:
    number = switches.newest_driver(run.control, migration.context) + 1
    sides = migration.open_side, migration.closed_side
    return Switch(uuid.uuid4(), migration.context, *sides, migration.epoch + 1, Outcome.RUNNING, number)


def _prepare(moves: Sequence[Move], terms: Terms) -> None:
    """Everything that may take time, while nobody waits."""
    for move in moves:
        run, switch = move.run, move.switch
        fence.complete_locks(run, switch)
        wayback.make(run, switch)
        _journal(move, "way_back_prepared", {})
        move.pairs = sequences.pair(run, switch.from_side, switch.to_side)
    kill_point("switch.way_back_prepared")
    for move in moves:
        if not move.run.executor.dry:
            blockers.await_none(
                move.run, move.switch.from_side,
                patience_s=move.run.context.options.hold_patience_s, terminate=terms.terminate_blockers,
            )  # fmt: skip


def _note(moves: Sequence[Move], traffic: Traffic, watch: Stopwatch) -> None:
    note = traffic.note()
    watch.traffic_noted = True
    for move in moves:
        _journal(move, settle.TRAFFIC_NOTED, note)
    if not moves[0].run.executor.dry:
        traffic.ready()


def _hold(moves: Sequence[Move], traffic: Traffic, watch: Stopwatch, terms: Terms) -> None:
    first, limits = moves[0], Limits.of([move.run for move in moves])
    side = first.switch.from_side

    def on_busy(error: TrafficBusy) -> None:
        found = blockers.sessions(first.run, side, error.pids)
        if terms.terminate_blockers:
            blockers.end(first.run, side, found)
        named.append(blockers.shown(found))

    def hold() -> None:
        watch.start(traffic.hold(attempt_s=limits.attempt_s, patience_s=limits.patience_s, on_busy=on_busy))

    named: list[str] = []
    names = ", ".join(move.run.name for move in moves)
    try:
        if first.run.executor.dry:
            watch.start(time.monotonic())
        first.run.executor.act(side, f"close the gate of {names} until the switch is decided", hold)
    except TrafficBusy as error:
        raise blockers.Blocked(
            f"context {names!r}: {error.message}: {named[-1]}",
            unchanged=f"the {side} side is open as before",
            next_step="end them (--terminate-blockers does so), or try again when they are done",
        ) from error


def _exchange(moves: Sequence[Move], traffic: Traffic, watch: Stopwatch, terms: Terms) -> None:
    """Everything that happens while no side takes writes."""
    limits = Limits.of([move.run for move in moves])
    assert watch.began is not None
    watch.lap("hold")
    kill_point("switch.gate_closed")
    _fence_and_drain(moves, watch, watch.began + limits.fence_and_drain_s, terms)
    _verify(moves, watch, limits)
    for move in moves:
        sequences.carry(move.run, move.pairs, move.switch.from_side, move.switch.to_side)
    watch.lap("sequences")
    kill_point("switch.sequences_set")
    for move in moves:
        wayback.mark_opening(move.run, move.switch)
    watch.lap("position")
    kill_point("switch.opening_marked")
    _lead(moves, "lead what waits to", traffic, lambda: _repoint(moves, traffic, watch, limits))
    watch.lap("repoint")
    kill_point("switch.repointed")
    watch.require(limits.blocked_s)
    for move in moves:  # once it is decided, all would wait for a side that has just died
        move.run.executor.read(move.switch.to_side, sql.SQL("SELECT 1"))
    _commit(moves)
    watch.lap("journal")
    kill_point("switch.committed")
    settle.open_all(moves)
    watch.lap("open")
    _lead(moves, "let the traffic go to", traffic, lambda: traffic.release(traffic.to_side))
    watch.stop("release")
    kill_point("switch.released")


def _repoint(moves: Sequence[Move], traffic: Traffic, watch: Stopwatch, limits: Limits) -> None:
    for move in moves:  # a driver that was replaced must not lead anything away from what the newer one has opened
        switches.require_newest(move.run.control, move.switch)
    traffic.repoint(time.monotonic() + watch.require(limits.blocked_s))


def _fence_and_drain(moves: Sequence[Move], watch: Stopwatch, deadline: float, terms: Terms) -> None:
    written = {move.run.name: markers.new(move.run.name, "fence") for move in moves}
    for move in moves:
        marker = written[move.run.name]
        fence.fence(move.run, move.switch, marker, deadline, terminate=terms.terminate_blockers)
    watch.lap("fence")
    kill_point("switch.fenced")
    for move in moves:
        _drain(move, written[move.run.name], deadline)
    watch.lap("drain")
    kill_point("switch.drained")


def _drain(move: Move, marker: markers.Marker, deadline: float) -> None:
    run, side = move.run, move.switch.to_side
    run.executor.act(
        side,
        f"wait until the fence marker is applied (at most {run.context.options.switch_deadline_ms} ms in all)",
        lambda: markers.wait_applied(run.databases[side], marker, deadline),
    )


def _verify(moves: Sequence[Move], watch: Stopwatch, limits: Limits) -> None:
    until = time.monotonic() + min(limits.recheck_s, watch.require(limits.blocked_s))
    for move in moves:  # the budget is one for all
        for name, seen in move.verify(until - time.monotonic()).items():
            watch.facts[name] = watch.facts[name] + seen if name in watch.facts else seen
    watch.lap("verify")
    kill_point("switch.verified")


def _commit(moves: Sequence[Move]) -> None:
    """One transaction decides for all contexts."""
    control = moves[0].run.control
    names = ", ".join(move.run.name for move in moves)
    moves[0].run.executor.act(
        Side.SHARED,
        f"journal: switch of {names} committed",
        lambda: switches.commit(control, [move.switch for move in moves]),
    )


def _lead(moves: Sequence[Move], what: str, traffic: Traffic, action: Callable[[], None]) -> None:
    """Do something with PgBouncers and hooks, or show it; the gates alone need no word."""
    if traffic.hooks or traffic.bouncers.bouncers:
        named = ", ".join(driver.name for driver in traffic.drivers)
        moves[0].run.executor.act(None, f"{what} the {traffic.to_side} side: {named}", action)
    elif not moves[0].run.executor.dry:
        action()


def _journal(move: Move, step: str, detail: dict[str, object]) -> None:
    move.run.executor.act(
        Side.SHARED, f"journal: {step}", lambda: switches.journal(move.run.control, move.switch, step, detail)
    )


def _interrupted(moves: Sequence[Move]) -> Interrupted:
    names = ", ".join(move.run.name for move in moves)
    return Interrupted(
        f"context {names!r}: interrupted; the switch went back",
        unchanged=f"the {moves[0].switch.from_side} side is open as before",
        next_step=f"carveout status {moves[0].run.name}",
    )
