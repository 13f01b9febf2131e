"""Who of a context's workers is the one at work: whoever came first, or whom the consumer group says."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from cdc.kafka.group import Membership
from cdc.state.position import Fenced
from contexts.databases import Connection, Database, Databases
from contexts.errors import CarveoutError, RefusedError
from contexts.model import Context
from migrator.control import locks, workers
from migrator.control.locks import Lock, LockTaken
from migrator.control.migrations import Migration

#: How long one look waits to be given the work.
TURN_S = 0.5
_ROLE = "worker"
_log = logging.getLogger(__name__)


class Seat(Protocol):
    """The right to work on a context."""

    #: Set while this worker is the one at work: only then it reports, answers and looks after things.
    taken: threading.Event

    def sit(self, migration: Migration) -> bool:
        """Take the seat, or take it again where it was lost; False where another worker has it.

        :raises CarveoutError: it cannot be had; ``transient`` where it is worth to try again.
        """

    def is_sitting(self) -> bool:
        """Whether the seat is still this worker's, as far as it knows."""

    def outlives(self, error: Exception) -> bool:
        """Whether the worker goes on after an error that would else end it."""

    def report(self) -> dict[str, Any]:
        """What ``status`` shows of it."""

    @property
    def pid(self) -> int | None:
        """The server process of the session that holds the worker's lock, None without it."""

    def close(self) -> None:
        """Give it up."""


class Alone:
    """The first worker has the seat until it ends; a second one is refused."""

    def __init__(self, context: Context, shared: Database) -> None:
        """:raises RefusedError: another worker has it."""
        self.taken = threading.Event()
        self._lock = Lock(shared, context.name, _ROLE)
        self.taken.set()

    def sit(self, migration: Migration) -> bool:
        """Take the lock again where its session was lost; see :class:`Seat`."""
        try:
            self._lock.renew()
        except LockTaken:  # the report row is the other worker's now
            self.taken.clear()
            raise
        self.taken.set()
        return True

    def is_sitting(self) -> bool:
        """Always: whoever takes it away makes :meth:`sit` fail."""
        return True

    def outlives(self, error: Exception) -> bool:
        """Nothing: another worker means that somebody started two."""
        return False

    def report(self) -> dict[str, Any]:
        """There is no group."""
        return {"group": None}

    @property
    def pid(self) -> int | None:
        """See :class:`Seat`."""
        return self._lock.pid

    def close(self) -> None:
        """End the lock's session."""
        self._lock.close()


class InGroup:
    """Kafka's consumer group gives the seat to one of the context's workers; the others stand by.

    The seat is the same lock as that of :class:`Alone`, so who asks for "the worker" finds the one that has it. A
    member that was replaced and does not let go (frozen, or cut off) has its session ended by its successor.
    """

    def __init__(self, context: Context, both: Databases, on_lost: Callable[[], None]) -> None:
        """:param on_lost: called in another thread when the seat is taken away."""
        from cdc.kafka.cluster import Cluster

        self.taken = threading.Event()
        self._context, self._shared, self._on_lost = context.name, both.shared, on_lost
        self._cluster = Cluster.of(context)
        self._group = self._cluster.group or ""
        self._membership: Membership | None = None
        self._lock: Lock | None = None
        self._standby: Connection | None = None

    def sit(self, migration: Migration) -> bool:
        """Join the group of the stream's topic, and take the lock where it is ours; see :class:`Seat`."""
        member = self._member(migration)
        if not member.take(TURN_S):
            self._stand_up()
            return False
        try:
            self._take_lock(member)
        except BaseException:
            self._stand_up()
            raise
        if not self.taken.is_set():
            _log.info("context %s: at work for group %s, generation %d", self._context, self._group, member.generation)
            self.taken.set()
        return True

    def is_sitting(self) -> bool:
        """Whether the group has not given the topic to another."""
        return self._membership is not None and self._membership.holds

    def outlives(self, error: Exception) -> bool:
        """That another worker has taken over is no error here: this one stands by."""
        return isinstance(error, Fenced)

    def report(self) -> dict[str, Any]:
        """The group, the topic that is held and the group's generation."""
        member = self._membership
        if member is None:
            return {"group": None}
        return {"group": {"name": self._group, "topic": member.topic, "generation": member.generation}}

    @property
    def pid(self) -> int | None:
        """See :class:`Seat`."""
        return self._lock.pid if self._lock else None

    def close(self) -> None:
        """Leave the group; another worker takes over at once."""
        self._stand_up()
        if self._membership:
            self._membership.close()
        if self._standby:
            self._standby.close()

    def _member(self, migration: Migration) -> Membership:
        topic = self._cluster.names(migration.stream).topic
        if self._membership and (self._membership.topic != topic or self._membership.has_ended):
            self._membership.close()
            self._membership = None
        if self._membership is None:
            self._membership = self._cluster.join(migration.stream, self._lost)
        return self._membership

    def _lost(self) -> None:
        self.taken.clear()
        self._on_lost()

    def _take_lock(self, member: Membership) -> None:
        if self._standby:
            self._standby.close()
            self._standby = None
        try:
            if self._lock:
                self._lock.renew()
            else:
                self._lock = Lock(self._shared, self._context, _ROLE, group=self._group)
        except (RefusedError, LockTaken) as error:
            if not member.is_confirmed():
                raise NotOurTurn(f"context {self._context!r}: the group has not decided yet") from error
            if not locks.end_another(self._shared, self._context, _ROLE, self._group):
                raise
            _log.warning("context %s: ended the session of the worker that was replaced", self._context)
            try:
                self._lock = Lock(self._shared, self._context, _ROLE, group=self._group)
            except RefusedError as faster:  # that one has not heard yet that it was replaced
                raise NotOurTurn(f"context {self._context!r}: the worker that was replaced was faster") from faster

    def _stand_up(self) -> None:
        self.taken.clear()
        if self._lock:
            self._lock.close()
            self._lock = None
        if self._membership:
            self._membership.let_go()
        if self._standby is None or self._standby.closed:
            self._standby = self._shared.connect(workers.standby_name(self._context))


class NotOurTurn(CarveoutError):
    """Another member of the group still has the seat, and the group does not say that it was replaced."""

    transient = True


def seat_of(context: Context, both: Databases, on_lost: Callable[[], None]) -> Seat:
    """The kind of seat that the context declares.

    :raises RefusedError: another worker has the only one.
    """
    if context.source == "kafka" and context.kafka and context.kafka.group:
        return InGroup(context, both, on_lost)
    return Alone(context, both.shared)
