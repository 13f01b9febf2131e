"""What the outside tells a running stream, and what the stream tells the outside; safe between threads."""

from __future__ import annotations

import enum
import queue
import threading
from dataclasses import dataclass, field
from typing import Any, Protocol


class NoBarrier(enum.StrEnum):
    """What a request without a barrier leads to."""

    #: Nothing by itself.
    FAILED = "failed"
    #: Ask again in a moment: a switch closes the gate or lockstep begins, and waits for the stream.
    AGAIN = "again"
    #: The stream only audits here: applications write both sides, whose moments the requester takes itself.
    IN_LOCKSTEP = "in_lockstep"


class BarrierRequest(Protocol):
    """Somebody wants snapshots of both sides at one position."""

    @property
    def hold_s(self) -> float:
        """Nothing is applied after the barrier until it is released, or so long at most; 0: the stream goes on."""

    @property
    def wants_recent_keys(self) -> bool:
        """Whether the keys changed last are stored on the closed side, before its snapshot is taken."""

    def reached(self, snapshots: BarrierSnapshots) -> bool:
        """Hand the snapshots over; False where nobody wants them any more."""

    def failed(self, reason: str, why: NoBarrier = NoBarrier.FAILED) -> None:
        """Say why there is no barrier."""

    def is_released(self) -> bool:
        """Whether the snapshots have been imported, or given up, so that their sessions may end."""


@dataclass(frozen=True, slots=True)
class BarrierSnapshots:
    """Exported snapshots of both sides that hold exactly the same transactions."""

    lsn: int
    open_snapshot: str
    closed_snapshot: str


@dataclass
class Signals:
    """The mailbox of one stream."""

    stop: threading.Event = field(default_factory=threading.Event)
    #: Why nothing is applied or copied at the moment; None where work goes on.
    pause_reason: str | None = None
    #: Upper bound of applied rows per second; None: unbounded.
    rows_per_s: float | None = None
    #: Set when a fence marker was applied: nothing more is applied until the switch has been decided.
    halted: threading.Event = field(default_factory=threading.Event)
    barriers: queue.SimpleQueue[BarrierRequest] = field(default_factory=queue.SimpleQueue)
    #: Numbers for ``status``; replaced as a whole, never changed in place.
    report: dict[str, Any] = field(default_factory=dict)
