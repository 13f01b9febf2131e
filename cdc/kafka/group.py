"""A worker's place in a consumer group: Kafka decides which worker applies a topic, and who takes over from whom.

The group only decides. What is read from where stands in the position row on the closed side, and only whose token
stands there can commit: Kafka's word may be seconds old when a worker acts on it (one that was frozen wakes up and
still believes that the topic is its own). No offsets are committed to the group.

The member's own consumer fetches nothing: its partitions stay paused, and :class:`~cdc.kafka.source.KafkaSource` reads
with a consumer of its own from the stored position on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from cdc.kafka.topic import KafkaUnreachable, Options, naming
from contexts.errors import CarveoutError

#: How often the group is asked; a rebalance waits for every member to ask.
_POLL_S = 0.2
#: How often a member that holds nothing looks whether anybody does.
LOOK_S = 15.0
_log = logging.getLogger(__name__)


class Membership:
    """One member of a group, for one topic; a thread of its own keeps it in the group.

    :param session_s: a member that is silent for so long loses what it holds to another.
    :param on_lost: called in another thread as soon as the topic is not this member's any more.
    :raises KafkaUnreachable: no broker answered.
    """

    def __init__(
        self, bootstrap: str, group: str, topic: str, *, session_s: float, on_lost: Callable[[], None],
        options: Options | None = None,
    ) -> None:  # fmt: skip
        self.group, self.topic = group, topic
        self._on_lost, self._session_s, self._bootstrap, self._options = on_lost, session_s, bootstrap, options or {}
        self._changed = threading.Condition()
        self._holds = False
        self._in_use = False
        self._error: CarveoutError | None = None
        self._closing = threading.Event()
        self._looked = time.monotonic()
        with naming(bootstrap):
            self._consumer: Any = _consumer(bootstrap, group, session_s, self._options)
            # A leader that does not know the topic yet gives it to nobody, and may not notice when it learns of it.
            self._consumer.partitions_for_topic(topic)
            self._consumer.subscribe([topic], listener=_listener(self._assigned, self._revoked))
        self._thread = threading.Thread(target=self._run, name=f"group-{topic}", daemon=True)
        self._thread.start()

    @property
    def holds(self) -> bool:
        """Whether the topic is this member's, as far as it knows."""
        return self._holds

    @property
    def generation(self) -> int:
        """The group's count of assignments, -1 outside of one."""
        return int(self._consumer.group_metadata().generation_id)

    @property
    def has_ended(self) -> bool:
        """Whether it is out of order: a new one has to be made."""
        return not self._thread.is_alive()

    def take(self, timeout_s: float) -> bool:
        """Wait until the topic is this member's, and use it: another gets it only after :meth:`let_go`, or in time.

        :raises CarveoutError: the group could not be asked.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._holds or self._error, timeout_s)
            if self._error:
                raise self._error
            self._in_use = self._holds
            return self._holds

    def is_confirmed(self) -> bool:
        """Whether the brokers, too, say that the topic is this member's: who was frozen does not know better.

        :raises KafkaUnreachable: they could not be asked.
        """
        mine = self._consumer.group_metadata().member_id
        return self._holds and any(
            member["member_id"] == mine and self._is_assigned(member["member_assignment"])
            for member in self._described()["members"]
        )

    def _described(self) -> dict[str, Any]:
        """The group, as the brokers see it."""
        from kafka.admin import KafkaAdminClient

        with naming(self._bootstrap):
            admin: Any = KafkaAdminClient(bootstrap_servers=self._bootstrap, **self._options)
            try:
                found: dict[str, Any] = admin.describe_groups([self.group])[self.group]
            finally:
                admin.close()
        return found

    def _is_forgotten(self) -> bool:
        """Whether the group is at rest, and has given the topic to nobody: a leader that did not know it does so.

        Who joins anew then makes it decide again.
        """
        now = time.monotonic()
        if self._holds or now - self._looked < LOOK_S:
            return False
        self._looked = now
        found = self._described()
        if found["group_state"] != "Stable" or any(self._is_assigned(m["member_assignment"]) for m in found["members"]):
            return False
        _log.warning("group %s has given %s to nobody: joining anew", self.group, self.topic)
        return True

    def let_go(self) -> None:
        """Nothing is written any more by this member."""
        with self._changed:
            self._in_use = False
            self._changed.notify_all()

    def close(self) -> None:
        """Leave the group, so that another member takes over at once; a second call does nothing."""
        self.let_go()
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    with naming(self._bootstrap):
                        self._consumer.poll(timeout_ms=int(_POLL_S * 1000))
                    self._error = None
                    if self._is_forgotten():
                        return
                except CarveoutError as error:  # what it holds it keeps: only the group takes it away
                    self._error = error
                    self._closing.wait(_POLL_S)
        except Exception as error:
            _log.exception("group %s: its member for %s has ended", self.group, self.topic)
            self._error = KafkaUnreachable(f"group {self.group}: {type(error).__name__}: {error}")
        finally:
            self._revoked([])
            self._consumer.close()

    def _is_assigned(self, assignment: Any) -> bool:
        return any(one["topic"] == self.topic for one in (assignment or {}).get("assigned_partitions", ()))

    def _assigned(self, partitions: Any) -> None:
        if not partitions:
            return
        self._consumer.pause(*partitions)
        with self._changed:
            self._holds = True
            self._changed.notify_all()

    def _revoked(self, _partitions: Any) -> None:
        """Runs where the heartbeats do, so it may wait for what is in flight, but not for long."""
        with self._changed:
            held, self._holds = self._holds, False
            if held:
                self._on_lost()
                self._changed.wait_for(lambda: not self._in_use, self._session_s / 3)


def _consumer(bootstrap: str, group: str, session_s: float, options: Options) -> Any:
    from kafka import KafkaConsumer
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

    milliseconds = int(session_s * 1000)
    return KafkaConsumer(
        bootstrap_servers=bootstrap, client_id="carveout", group_id=group, enable_auto_commit=False,
        session_timeout_ms=milliseconds, heartbeat_interval_ms=milliseconds // 5,
        # Who holds a topic keeps it when others come and go.
        partition_assignment_strategy=(CooperativeStickyAssignor,),
        auto_offset_reset="latest", reconnect_backoff_max_ms=1000, **options,
    )  # fmt: skip


def _listener(assigned: Callable[[Any], None], revoked: Callable[[Any], None]) -> Any:
    from kafka import ConsumerRebalanceListener

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
        def on_partitions_assigned(self, given: Any) -> None:
            assigned(given)

        def on_partitions_revoked(self, taken: Any) -> None:
            revoked(taken)

    return Listener()
