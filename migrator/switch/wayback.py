"""The way back: publication and slot on the side that will open, made while nobody waits."""

from __future__ import annotations

import time

from psycopg import sql

from cdc.lsn import parse_lsn
from cdc.names import publication_name, slot_name
from cdc.source.slots import create_slot, drop_slot
from cdc.state import position
from cdc.state.position import Position, StreamId
from contexts.errors import CarveoutError
from contexts.model import Side
from migrator.control import switches
from migrator.control.switches import Switch
from migrator.executor import Row
from migrator.run import Run
from migrator.steps import transport
from migrator.steps.preparation import publish
from migrator.switch import fence, markers, probe

PROBE_S = 10.0


class WayBackBroken(CarveoutError):
    """The reverse slot does not give what was written."""


def stream_of(switch: Switch) -> StreamId:
    """The stream that begins when the switch commits."""
    return StreamId(switch.context, switch.epoch)


def make(run: Run, switch: Switch) -> None:
    """Make publication and slot on the side that will open, and prove that rows and a marker come out of the slot.

    :raises WayBackBroken: they do not.
    :raises CannotApply: they could not be written on the side that will close.
    """
    side, name = switch.to_side, slot_name(stream_of(switch))
    executor = run.executor
    exists = executor.read(
        side, sql.SQL("SELECT 1 FROM pg_publication WHERE pubname = %s"), (publication_name(run.name),)
    )
    if not exists:
        publish(run, side)
    executor.act(
        side,
        f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')",
        lambda: _create_slot(run, side, name),
    )
    marker = markers.new(run.name, "probe")
    xid, rows = probe.send(run, side, marker)
    if not executor.dry:
        _require_in_slot(run, side, name, marker, xid, rows)
    probe.require_applicable(run, switch.from_side)
    transport.make_way_back(run, stream_of(switch), side, marker.id)


def _create_slot(run: Run, side: Side, name: str) -> None:
    create_slot(
        run.executor.connection(side),
        name,
        publication=publication_name(run.name),
        timeout_s=run.context.options.barrier_timeout_s,
    )


def _require_in_slot(run: Run, side: Side, slot: str, marker: markers.Marker, xid: int, rows: int) -> None:
    """Peek into the slot until the probe is seen: rights, publication and decoding all work."""
    deadline, publication = time.monotonic() + PROBE_S, f'"{publication_name(run.name)}"'
    while True:
        seen, has_marker = probe.arrived(run, side, slot, publication, marker, xid)
        if has_marker and seen == rows:
            return
        if has_marker or time.monotonic() > deadline:
            what = f"gives {seen} of {rows} rows" if has_marker else "does not give the marker"
            raise WayBackBroken(
                f"context {run.name!r}: slot {slot!r} on the {side} side {what} of the probe that was written",
                unchanged="the open side stays open",
                next_step=f"carveout doctor {run.name}",
            )


def mark_opening(run: Run, switch: Switch) -> None:
    """Store where the reverse stream begins: on the closed ``to_side`` nothing but the marker comes after it."""
    executor, stream = run.executor, stream_of(switch)
    identity = executor.read(
        switch.to_side,
        sql.SQL(
            "SELECT system_identifier::text, timeline_id, pg_current_wal_insert_lsn()::text"
            " FROM pg_control_system(), pg_control_checkpoint()"
        ),
    )[0]
    executor.act(
        switch.from_side,
        f"store the position of stream {stream.epoch}: {identity[2]} of slot {slot_name(stream)}",
        lambda: _store(run, switch, identity),
    )
    markers.emit(executor, switch.to_side, markers.new(run.name, "open"))


def _store(run: Run, switch: Switch, identity: Row) -> None:
    stream = stream_of(switch)
    conn = run.executor.connection(switch.from_side)
    with conn.transaction():
        # A driver that was replaced would move the position of the stream that is running now.
        fence.take(run, switch, switch.from_side)
        _forget(run, switch)
        position.create(conn, stream, Position(identity[0], identity[1], slot_name(stream), parse_lsn(identity[2])))


def drop(run: Run, switch: Switch) -> None:
    """Take the way back away again, when the switch went back."""
    executor, name = run.executor, slot_name(stream_of(switch))
    switches.require_newest(run.control, switch)  # the next switch's slot has the same name
    transport.remove(run, stream_of(switch))
    executor.act(
        switch.to_side,
        f"SELECT pg_drop_replication_slot('{name}')",
        lambda: drop_slot(executor.connection(switch.to_side), name),
    )
    executor.act(switch.from_side, f"forget the position of stream {switch.epoch}", lambda: _forget(run, switch))


def drop_old(run: Run, switch: Switch) -> None:
    """Drop the stream that ended with the switch: its slot would keep WAL for ever."""
    old = StreamId(run.name, switch.epoch - 1)
    transport.remove(run, old)
    name = slot_name(old)
    run.executor.act(
        switch.from_side,
        f"SELECT pg_drop_replication_slot('{name}')",
        lambda: drop_slot(run.executor.connection(switch.from_side), name),
    )


def _forget(run: Run, switch: Switch) -> None:
    run.executor.connection(switch.from_side).execute(
        "DELETE FROM carveout.position WHERE context = %s AND epoch = %s", (run.name, switch.epoch)
    )
