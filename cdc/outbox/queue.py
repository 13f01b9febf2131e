"""The events that are not published yet, on the closed side: written with the rows they come from.

So the sink may be away for as long as it likes: the stream goes on, and no event is lost or made twice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from cdc.outbox.events import OutboxEvent
from cdc.state.position import StreamId
from contexts import sqlfiles
from contexts.databases import Connection

_SQL = sqlfiles.load("cdc.outbox", "queue.sql")
#: Told by the statement ``tell``.
CHANNEL = "carveout_outbox"
#: A topic and a key: within them, the order is kept.
Line = tuple[str, str]
_SHOWN = 20
#: After so many bytes of payload a batch is full, however few its events are.
BATCH_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Held:
    """An event that the sink will never take, and for which an operator must decide."""

    event_id: str
    topic: str
    reason: str
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """What one side still holds."""

    events: int
    #: When the oldest of them came.
    oldest: dt.datetime | None
    #: How many of them are held, and the first of those.
    held: int
    first_held: Sequence[Held]


def arrays(events: Iterable[OutboxEvent]) -> list[list[object]]:
    """Topics, keys, ids, headers, payloads and times of events (at least one), as parameters of a statement."""
    rows = [(e.topic, e.key, e.event_id, Jsonb(e.headers), e.payload, e.at) for e in events]
    return [list(column) for column in zip(*rows, strict=True)]


def add(conn: Connection, stream: StreamId, events: Iterable[OutboxEvent]) -> None:
    """Append events in the open transaction; whoever publishes is told at its commit."""
    conn.execute(_SQL["add"], (stream.context, stream.epoch, *arrays(events)))
    conn.execute(_SQL["tell"])


def epochs(conn: Connection, context: str) -> list[int]:
    """The streams of which something waits, in their order."""
    return [epoch for (epoch,) in conn.execute(_SQL["epochs"], (context,))]


def following(conn: Connection, stream: StreamId, behind: Collection[Line], limit: int) -> dict[int, OutboxEvent]:
    """The next events that may be published, by number; none of the lines ``behind`` which something else waits."""
    lines: Mapping[str, object] = {"topics": [t for t, _ in behind], "keys": [k for _, k in behind]}
    asked = {"context": stream.context, "epoch": stream.epoch, "limit": limit, "bytes": BATCH_BYTES, **lines}
    found = conn.execute(_SQL["next"], asked).fetchall()
    return {
        number: OutboxEvent(topic, key, event_id, tuple((name, text) for name, text in headers), payload, at)
        for number, topic, key, event_id, headers, payload, at in found
    }


def lines(conn: Connection, stream: StreamId) -> set[Line]:
    """Where something of a stream waits."""
    return {(topic, key) for topic, key in conn.execute(_SQL["waiting"], (stream.context, stream.epoch))}


def published(conn: Connection, numbers: Iterable[int]) -> None:
    """Forget events that the sink has."""
    conn.execute(_SQL["published"], (list(numbers),))


def hold(conn: Connection, refused: Mapping[int, str]) -> None:
    """Keep events that the sink will never take, by number, with the reason."""
    for number, reason in refused.items():
        conn.execute(_SQL["hold"], (reason, number))


def release(conn: Connection, context: str) -> int:
    """Have all held events tried again; how many."""
    count = conn.execute(_SQL["release"], (context,)).rowcount
    conn.execute(_SQL["tell"])
    return count


def is_held(conn: Connection, context: str, event_id: str) -> bool:
    """Whether an event of that id is held."""
    return conn.execute(_SQL["is_held"], (context, event_id)).fetchone() == (True,)


def skip(conn: Connection, context: str, event_id: str) -> int:
    """Give a held event up; how many there were of that id."""
    count = conn.execute(_SQL["skip"], (context, event_id)).rowcount
    conn.execute(_SQL["tell"])
    return count


def backlog(conn: Connection, context: str) -> Backlog:
    """What waits on this side; nothing where it has no queue yet."""
    if conn.execute("SELECT to_regclass('carveout.outbox_event')").fetchone() == (None,):
        return Backlog(0, None, 0, [])
    row = conn.execute(_SQL["status"], (context,)).fetchone()
    assert row is not None
    held = [Held(*found) for found in conn.execute(_SQL["held"], (context, _SHOWN))]
    events, oldest, count = row
    return Backlog(events, oldest, count, held)


def newest(conn: Connection, context: str) -> int:
    """The number of the event that came last, 0 where none waits or this side has no queue yet."""
    if conn.execute("SELECT to_regclass('carveout.outbox_event')").fetchone() == (None,):
        return 0
    return int(conn.execute(_SQL["newest"], (context,)).fetchall()[0][0])


def waiting_until(conn: Connection, context: str, number: int) -> tuple[int, int]:
    """How many events up to a number still wait, and how many of those are held."""
    waiting, held = conn.execute(_SQL["until"], (context, number)).fetchall()[0] if number else (0, 0)
    return waiting, held


def together(sides: Collection[Backlog]) -> Backlog:
    """What all sides hold."""
    return Backlog(
        sum(one.events for one in sides),
        min((one.oldest for one in sides if one.oldest), default=None),
        sum(one.held for one in sides),
        [event for one in sides for event in one.first_held],
    )
