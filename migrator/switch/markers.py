"""Markers: transactional logical messages that must come back out of the stream and be applied."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass

from psycopg import sql

from contexts.databases import Database
from contexts.errors import CarveoutError
from contexts.model import Side
from migrator.executor import Executor


class MarkerLost(CarveoutError):
    """A marker did not come through the stream in time."""

    transient = True


@dataclass(frozen=True, slots=True)
class Marker:
    """A marker that was written; ``kind`` says what for."""

    context: str
    kind: str
    id: str


def new(context: str, kind: str) -> Marker:
    """A marker with a fresh id."""
    return Marker(context, kind, str(uuid.uuid4()))


def emit(executor: Executor, side: Side, marker: Marker) -> None:
    """Write the marker into the WAL of a side; it commits with the surrounding transaction."""
    content = json.dumps({"context": marker.context, "kind": marker.kind, "id": marker.id})
    executor.write(side, sql.SQL("SELECT pg_logical_emit_message(true, 'carveout', %s)"), (content,))


def wait_applied(closed: Database, marker: Marker, deadline: float) -> None:
    """Wait until the marker has been applied on the closed side.

    :param deadline: on the monotonic clock.
    :raises MarkerLost: it was not there by then.
    """
    with closed.connect(f"marker/{marker.context}") as conn:
        conn.execute("LISTEN carveout")
        while True:
            found = conn.execute(
                "SELECT 1 FROM carveout.marker WHERE context = %s AND id = %s", (marker.context, marker.id)
            ).fetchone()
            if found:
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise MarkerLost(
                    f"context {marker.context!r}: the {marker.kind} marker has not come through the stream in time",
                    unchanged="the open side stays open",
                    next_step=f"carveout status {marker.context}",
                )
            next(conn.notifies(timeout=left, stop_after=1), None)
