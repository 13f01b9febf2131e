"""Reads both databases and says in plain words what stands, what is half done, and what leads on.

It asks each side on its own, so it also answers when one of them is down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg

from cdc.names import slot_name
from cdc.source.slots import slot_status
from cdc.state import position
from cdc.state.position import Position
from contexts.catalog import read_tables
from contexts.errors import CarveoutError
from contexts.model import Side
from migrator import byhand, connector
from migrator.control import locks, switches, workers
from migrator.control.migrations import Migration
from migrator.control.switches import Outcome, Switch
from migrator.grants.parity import lacks
from migrator.lifecycle import State
from migrator.lockstep.told import lines as lockstep
from migrator.proof import latest_proof
from migrator.run import Run
from migrator.sides import route, writelock
from migrator.sides.writelock import LockState
from migrator.switch.health import way_back
from migrator.watch.fence import rogue_writes


def diagnose(run: Run) -> list[str]:
    """What was found, a sentence a line; lines that need an action begin with ``!``, statements are indented."""
    try:
        migration = run.migration()
    except (psycopg.Error, CarveoutError) as error:
        return [f"! the shared database cannot be asked: {error}", *_guarded(run, Side.SERVICE, _side_alone)]
    found = [f"{run.name} is {migration.state}; the {migration.open_side} side should be open"]
    if migration.state is State.PLANNED:
        return [*found, f"nothing was prepared yet; next: `carveout prepare {run.name}`"]
    switch = switches.current(run.control, run.name)
    found += _switch_lines(run, switch)
    for side in Side:
        found += _guarded(run, side, lambda run, side: _side(run, side, migration, switch))
    found += _both_sides(run, migration, switch)
    if migration.state.streams:
        found += _guarded(run, migration.open_side, lambda run, _: _stream(run, migration))
        found += _guarded(run, Side.SERVICE, lambda run, _: _rights(run, migration))
        found += _guarded(run, Side.SERVICE, lambda run, _: lockstep(run))
        found += _connector(run)
    return [*found, *_ways(run, migration, switch), *_worker(run, migration)]


def _guarded(run: Run, side: Side, read: object) -> list[str]:
    assert callable(read)
    try:
        return list(read(run, side))
    except (psycopg.Error, CarveoutError) as error:
        return [f"! the {side} database cannot be asked: {' '.join(str(error).split())}"]


def _switch_lines(run: Run, switch: Switch | None) -> list[str]:
    if switch is None:
        return []
    running = locks.is_held(run.control, run.name, "driver")
    who = "a driver is at work on it" if running else "its driver is gone"
    if switch.outcome is Outcome.COMMITTED:
        way = f"it is past the point of no return: `carveout resume {run.name}` opens the {switch.to_side} side"
    else:
        way = f"nothing is decided: `carveout resume {run.name}` opens the {switch.from_side} side again"
    mark = "" if running else "! "
    return [f"{mark}a switch from {switch.from_side} to {switch.to_side} is half done ({who}); {way}"]


def _side(run: Run, side: Side, migration: Migration, switch: Switch | None) -> Iterator[str]:
    over = migration.state in (State.COMPLETED, State.COMPLETING, State.ABORTED, State.ABORTING)
    there = read_tables(run.executor.connection(side), run.context.table_names)
    if over and side is not migration.open_side and not there:
        yield f"the {side} side has the tables no longer: they are dropped, or foreign tables have their names"
        return
    states = writelock.states(run.executor, side, run.tables(side))
    closed = sorted(str(table.name) for table, state in states.items() if state is LockState.CLOSED)
    opened = sorted(str(table.name) for table, state in states.items() if state is not LockState.CLOSED)
    word = "closed" if not opened else "open" if not closed else f"partly open (open: {', '.join(opened)})"
    yield f"the {side} side is {word} for application writes"
    told = route.read(run.executor, side, run.name)
    yield f"the {side} database was told that the {told[0]} side is open" if told else f"{side}: no route is stored"
    if switch is None and not over:
        wanted_open = side is migration.open_side
        if wanted_open and closed:
            yield f"! the {side} side should be open: writes there are refused; run there"
            yield from byhand.as_lines(side, byhand.set_locks(run.name, side, states, LockState.OPEN))
        if not wanted_open:
            yield from _rogue_writes(run, side)
        if not wanted_open and opened:
            yield f"! the {side} side should be closed: writes there do not reach the other side; run there"
            yield from byhand.as_lines(side, byhand.set_locks(run.name, side, states, LockState.CLOSED))


def _both_sides(run: Run, migration: Migration, switch: Switch | None) -> list[str]:
    """What cannot be known or done while the service side is away: whether to wait is somebody's decision."""
    if migration.open_side is Side.SHARED:
        return []
    try:
        run.executor.connection(Side.SERVICE)
    except (psycopg.Error, CarveoutError):
        states = writelock.states(run.executor, Side.SHARED, run.tables(Side.SHARED))
        statements = byhand.open_shared_without_service(migration, switch, states)
        return [
            "! only you can decide: wait until the service database is back, and nothing is lost; or, where it is lost"
            " for ever, open the shared side without the writes that it does not have:",
            *byhand.as_lines(Side.SHARED, statements),
            f"    after that, with a service database again: `carveout abort {run.name}`, and begin anew",
        ]
    return []


def _ways(run: Run, migration: Migration, switch: Switch | None) -> Iterator[str]:
    """What ``resume`` and ``abort`` would do from here."""
    name = run.name
    if switch is not None:
        opens = switch.to_side if switch.outcome is Outcome.COMMITTED else switch.from_side
        yield f"resume would open the {opens} side and end the switch; abort refuses until then"
        return
    yield "resume would end a pause, and change nothing else: no switch is half done"
    match migration.state:
        case State.SWITCHED:
            yield "abort refuses, since it would lose the writes of the service side: roll back or complete"
        case State.COMPLETING:
            yield f"! complete is half done, and there is no way back any more: `carveout complete {name}` goes on"
        case State.ABORTING:
            yield f"! abort is half done: `carveout abort {name}` goes on; the shared side is open, nothing is lost"
        case State.COMPLETED | State.ABORTED:
            yield "abort would do nothing: it is over"
        case _:
            yield "abort would remove all that was made for this and empty the copies; the shared side keeps its rows"


def _rights(run: Run, migration: Migration) -> Iterator[str]:
    if migration.open_side is not Side.SHARED:
        return
    missing = [lack for lack in lacks(run.control, run.executor.connection(Side.SERVICE), run.context) if lack.blocks]
    if missing:
        yield f"! a cutover waits for {len(missing)} rights on the service side; `carveout grants apply {run.name}`, or"
        yield from byhand.as_lines(Side.SERVICE, (lack.statement.removesuffix(";") for lack in missing))


def _rogue_writes(run: Run, side: Side) -> Iterator[str]:
    proof = latest_proof(run)
    for write in rogue_writes(run.executor.connection(side), run.name):
        if proof is None or proof.result.started_at < write.at:
            yield f"! past the write lock of the {side} side: {write}; `carveout verify {run.name}` shows the rows"


def _side_alone(run: Run, side: Side) -> Iterator[str]:
    told = route.read(run.executor, side, run.name)
    if not told:
        return
    yield f"the {side} database was last told that the {told[0]} side is open"
    states = writelock.states(run.executor, side, run.tables(side))
    refusing = any(state is LockState.CLOSED for state in states.values())
    yield f"the {side} side {'refuses' if refusing else 'takes'} application writes"
    yield "whatever is half done is decided by the journal in the shared database: open nothing before it can be asked"


def _stream(run: Run, migration: Migration) -> Iterator[str]:
    slot = slot_status(run.executor.connection(migration.open_side), slot_name(migration.stream))
    stored = position.read(run.executor.connection(migration.closed_side), migration.stream)
    if not slot.exists:
        yield (
            f"! slot {slot_name(migration.stream)!r} is gone from the {migration.open_side} side: changes since the"
            f" stored position cannot be had any more; {_without_slot(migration)}"
        )
    elif _is_ahead(run, slot.confirmed_flush_lsn, stored):
        yield f"! slot {slot_name(migration.stream)!r} is ahead of the stored position: it was re-created or advanced"
    back = way_back(run, migration)
    if back and back.lost_because and slot.exists:
        yield f"! there is no way back: {back.lost_because}; `carveout complete {run.name}`"
    elif back and back.window_is_over:
        yield f"the time for going back was over at {back.until}: `carveout complete {run.name}`"
    if stored is None:
        yield f"! no position is stored on the {migration.closed_side} side for stream {migration.epoch}"


def _is_ahead(run: Run, confirmed: int | None, stored: Position | None) -> bool:
    """Whether the slot is past what is applied; with Kafka in between, which keeps what it gave, it may be."""
    return bool(run.context.source == "embedded" and stored and confirmed and confirmed > stored.end_lsn)


def _connector(run: Run) -> Iterator[str]:
    if run.context.source != "kafka":
        return
    found = connector.problems(run)
    yield from (f"! {line}" for line in found)
    if not found:
        yield "the connector runs, loses nothing, and its topic keeps everything"


def _without_slot(migration: Migration) -> str:
    if migration.open_side is Side.SHARED:
        return f"`carveout abort {migration.context}` and begin again"
    return f"so there is no way back: the service side stays open, `carveout complete {migration.context}` ends it"


def next_steps(found: list[str]) -> list[str]:
    """The commands that the findings name, in their order."""
    return list(dict.fromkeys(command for line in found for command in re.findall(r"`(carveout [^`]+)`", line)))


def _worker(run: Run, migration: Migration) -> Iterator[str]:
    report = workers.read(run.control, run.name)
    if locks.is_held(run.control, run.name, "worker"):
        yield "a worker is running"
    elif migration.state.streams or migration.state in (State.PREPARED, State.COPYING):
        yield f"! no worker is running: `carveout worker {run.name}`"
    if report and report.report.get("error"):
        yield f"! the worker last said: {report.report['error']}"
