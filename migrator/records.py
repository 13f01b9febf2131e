"""Looking at the record at which a stream through Kafka stopped, and deciding what becomes of it."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cdc.state import decisions, position
from cdc.state.decisions import Decision
from cdc.state.position import Position
from contexts.errors import RefusedError, StreamStopped
from migrator import connector
from migrator.run import Run

if TYPE_CHECKING:
    from cdc.kafka.link import Link
    from cdc.kafka.source import KafkaSource

#: How long nothing may come before all is read.
QUIET_S = 3.0


@dataclass(frozen=True)
class Stopped:
    """The record at which the stream stops."""

    topic: str
    offset: int
    reason: str
    #: The record without its schema, as Debezium wrote it; None where it is no JSON.
    record: dict[str, Any] | None
    text: str


def look(run: Run) -> Stopped | None:
    """Read on from the stored position, applying nothing; where that stops, the record, else None.

    :raises RefusedError: no position is stored: nothing streams.
    """
    link = connector.present(run)
    with closing(link.reader(_stored(run, link))) as source:
        try:
            _read_to_the_end(source)
        except StreamStopped as stopped:
            if source.stopped_at is None:
                raise
            return _shown(link.names.topic, source.stopped_at, stopped.message)
    return None


def decide(run: Run, offset: int, replacement: bytes | None, reason: str) -> None:
    """Leave out the record at which the stream stops, or read another in its place.

    :raises RefusedError: the stream does not stop there.
    """
    found = look(run)
    if found is None or found.offset != offset:
        where = f"it stops at offset {found.offset}" if found else "it stops nowhere"
        raise RefusedError(
            f"context {run.name!r}: the stream does not stop at offset {offset}: {where}",
            unchanged="nothing was decided",
            next_step=f"carveout stream look {run.name}",
        )
    link = connector.present(run)
    what = "left out" if replacement is None else "replaced"
    conn = run.executor.connection(link.closed.side)
    run.executor.act(
        link.closed.side,
        f"decide that the record at offset {offset} of {found.topic} is {what}",
        lambda: decisions.store(conn, link.stream, offset, replacement, reason),
    )


def decided(run: Run) -> list[Decision]:
    """The decisions about the present stream."""
    link = connector.present(run)
    return decisions.read(run.executor.connection(link.closed.side), link.stream)


def _stored(run: Run, link: Link) -> Position:
    if found := position.read(run.executor.connection(link.closed.side), link.stream):
        return found
    raise RefusedError(
        f"context {run.name!r} is {run.migration().state}: no stream has begun",
        unchanged="nothing was read",
        next_step=f"carveout status {run.name}",
    )


def _read_to_the_end(source: KafkaSource) -> None:
    end = source.end()
    quiet_since = time.monotonic()
    while source.read_to < end and time.monotonic() - quiet_since < QUIET_S:
        if source.poll(0.2) is not None:
            quiet_since = time.monotonic()


def _shown(topic: str, record: Any, reason: str) -> Stopped:
    text = (record.value or b"").decode(errors="replace")
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    payload = whole.get("payload", whole) if isinstance(whole, dict) else None
    return Stopped(topic, record.offset, reason, payload, text)
