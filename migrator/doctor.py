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
from contexts.catalog import Table
from contexts.errors import CarveoutError
from contexts.model import Side
from migrator import connector
from migrator.control import locks, switches, workers
from migrator.control.migrations import Migration
from migrator.control.switches import Outcome, Switch
from migrator.lifecycle import State
from migrator.proof import latest_proof
from migrator.run import Run
from migrator.sides import route, writelock
from migrator.sides.writelock import LockState
from migrator.watch.fence import rogue_writes


def diagnose(run: Run) -> list[str]:
    """What was found, a sentence a line; lines that need an action begin with ``!``."""
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
    if migration.state.streams:
        found += _guarded(run, migration.open_side, lambda run, _: _stream(run, migration))
        found += _connector(run)
    return [*found, *_worker(run, migration)]


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
    states = writelock.states(run.executor, side, run.tables(side))
    closed = sorted(str(table.name) for table, state in states.items() if state is LockState.CLOSED)
    opened = sorted(str(table.name) for table, state in states.items() if state is not LockState.CLOSED)
    word = "closed" if not opened else "open" if not closed else f"partly open (open: {', '.join(opened)})"
    yield f"the {side} side is {word} for application writes"
    told = route.read(run.executor, side, run.name)
    yield f"the {side} database was told that the {told[0]} side is open" if told else f"{side}: no route is stored"
    over = migration.state in (State.COMPLETED, State.COMPLETING, State.ABORTED, State.ABORTING)
    if switch is None and not over:
        wanted_open = side is migration.open_side
        if wanted_open and closed:
            yield f"! the {side} side should be open: writes there are refused; " + _sql("DISABLE", states)
        if not wanted_open:
            yield from _rogue_writes(run, side)
        if not wanted_open and opened:
            yield f"! the {side} side should be closed: writes there do not reach the other side; " + _sql(
                "ENABLE", states
            )


def _rogue_writes(run: Run, side: Side) -> Iterator[str]:
    proof = latest_proof(run)
    for write in rogue_writes(run.executor.connection(side), run.name):
        if proof is None or proof.result.started_at < write.at:
            yield f"! past the write lock of the {side} side: {write}; `carveout verify {run.name}` shows the rows"


def _sql(change: str, states: dict[Table, LockState]) -> str:
    """The statements that ENABLE or DISABLE the write locks that are not so."""
    wanted = LockState.CLOSED if change == "ENABLE" else LockState.OPEN
    wrong = [table for table, state in states.items() if state not in (wanted, LockState.MISSING)]
    missing = [f"{table.name} has no write lock" for table, state in states.items() if state is LockState.MISSING]
    return "; ".join([f"ALTER TABLE {t.name} {change} TRIGGER {writelock.TRIGGER}" for t in wrong] + missing)


def _side_alone(run: Run, side: Side) -> Iterator[str]:
    told = route.read(run.executor, side, run.name)
    if told:
        yield f"the {side} database was last told that the {told[0]} side is open"


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
