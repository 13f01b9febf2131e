"""Watches the open side for the worker: lag, slot, and load."""

from __future__ import annotations

import time
from typing import Any, Self

from cdc.lsn import format_lsn, parse_lsn
from cdc.names import slot_name
from cdc.source.slots import slot_status
from contexts.databases import Connection, Databases
from contexts.model import Context, Side
from migrator.control.migrations import Migration
from validations.rules import store

_ACTIVE_SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend'"
    " AND application_name NOT LIKE 'carveout/%'"
)


class Monitor:
    """Holds one connection to each side while the worker runs."""

    def __init__(self, databases: Databases, context: Context) -> None:
        self._databases = databases
        self._context = context
        self._connections: dict[Side, Connection] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for conn in self._connections.values():
            conn.close()

    def measure(self, migration: Migration, stream: dict[str, Any]) -> dict[str, Any]:
        """Lag in bytes and seconds, and the slot's health; empty where nothing streams yet."""
        if "end_lsn" not in stream:
            return {}
        conn = self._connection(migration.open_side)
        row = conn.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        assert row is not None
        slot = slot_status(conn, slot_name(migration.stream))
        lag_bytes = max(0, parse_lsn(row[0]) - stream["end_lsn"])
        broken = sum(store.count(self._connection(side), self._context.name) for side in Side)
        return {
            "rule_violations": broken,
            "end_lsn": format_lsn(stream["end_lsn"]),
            "lag_bytes": lag_bytes,
            # A stream that is stuck does not report: its silence counts.
            "lag_s": stream["behind_s"] + max(0.0, time.time() - stream["reported_at"]),
            "slot": {"exists": slot.exists, "wal_status": slot.wal_status, "lag_bytes": slot.lag_bytes},
        }

    def throttle_reason(self) -> str | None:
        """Why the worker should spare the shared database just now, or None."""
        options = self._context.options
        if not options.throttle_active_sessions and not options.throttle_probe_ms:
            return None
        began = time.monotonic()
        row = self._connection(Side.SHARED).execute(_ACTIVE_SESSIONS).fetchone()
        took_ms = (time.monotonic() - began) * 1000
        assert row is not None
        if 0 < options.throttle_active_sessions < row[0]:
            return f"{row[0]} active sessions on the shared database (limit {options.throttle_active_sessions})"
        if 0 < options.throttle_probe_ms < took_ms:
            return f"a probe of the shared database took {took_ms:.0f} ms (limit {options.throttle_probe_ms:g} ms)"
        return None

    def _connection(self, side: Side) -> Connection:
        conn = self._connections.get(side)
        if conn is None or conn.closed:
            conn = self._connections[side] = self._databases[side].connect(f"monitor/{self._context.name}")
        return conn
