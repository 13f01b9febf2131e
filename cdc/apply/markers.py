"""Markers: messages of ours in the stream that say "everything before this has been applied"."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cdc.events import Message
from cdc.lsn import format_lsn
from contexts.databases import Connection

PREFIX = "carveout"
CHANNEL = "carveout"
#: The kind of marker that ends the writes of a side.
FENCE = "fence"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Marker:
    """A marker that came out of the stream."""

    id: str
    #: What waits for it: fence, open, probe, barrier, ...
    kind: str
    #: End of the transaction that held it.
    end_lsn: int


def content(message: Message, context: str) -> dict[str, Any] | None:
    """What one of our messages says, or None where it is somebody else's message or another context's."""
    if message.prefix != PREFIX:
        return None
    try:
        found: dict[str, Any] = json.loads(message.content)
        return found if found["context"] == context and {"kind", "id"} <= found.keys() else None
    except (ValueError, KeyError, TypeError, AttributeError):
        _log.warning("a message with prefix %r at %s is no marker: ignored", PREFIX, format_lsn(message.lsn))
        return None


def read(message: Message, context: str, end_lsn: int) -> Marker | None:
    """The marker in a message, or None where it is somebody else's message or another context's marker."""
    found = content(message, context)
    return Marker(str(found["id"]), str(found["kind"]), end_lsn) if found is not None else None


def store(conn: Connection, context: str, markers: Iterable[Marker]) -> None:
    """Record the markers in the open transaction and tell those who wait for them at its commit."""
    for marker in markers:
        conn.execute(
            "INSERT INTO carveout.marker (context, id, kind, end_lsn) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (context, marker.id, marker.kind, format_lsn(marker.end_lsn)),
        )
        notice = {"context": context, "id": marker.id, "kind": marker.kind}
        conn.execute("SELECT pg_notify(%s, %s)", (CHANNEL, json.dumps(notice)))
