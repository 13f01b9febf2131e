"""The end of a bounded way back: what the slot keeps may not fill the service server's disk for ever."""

from __future__ import annotations

from cdc.names import slot_name
from cdc.source.slots import drop_slot
from contexts.model import Side
from migrator.control.migrations import Migration
from migrator.run import Run
from migrator.switch.health import way_back


def close(run: Run, migration: Migration) -> str | None:
    """Give the way back up, where its window is over and it keeps too much; says so, or None where nothing was done."""
    back, limit = way_back(run, migration), run.context.options.reverse_keep_mb * 1_000_000
    if back is None or back.lost_because or not back.window_is_over or (back.kept_bytes or 0) <= limit:
        return None
    conn, name = run.executor.connection(Side.SERVICE), slot_name(migration.stream)
    conn.execute(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
        " WHERE slot_name = %s AND active_pid IS NOT NULL",
        (name,),
    )
    drop_slot(conn, name)
    return f"the way back is given up: its time was over at {back.until}, and its slot kept {back.kept_bytes} bytes"
