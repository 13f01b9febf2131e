"""A group that gave a topic to nobody decides again."""

from __future__ import annotations

from typing import Any

import pytest

from cdc.kafka import group, topic
from cdc.kafka.group import Membership
from cdc.kafka.stack import Stack
from tests.waiting import wait_until


class Unknowing:
    """A leader's metadata before it has heard of the topic."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    def partitions_for_topic(self, _topic: str) -> None:
        return None


def test_a_topic_that_was_given_to_nobody_is_asked_for_again(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

    assign: Any = CooperativeStickyAssignor.assign
    knows: list[bool] = []

    def assigned(assignor: Any, cluster: Any, members: Any) -> Any:
        return assign(assignor, cluster if knows else Unknowing(cluster), members)

    monkeypatch.setattr(CooperativeStickyAssignor, "assign", assigned)
    monkeypatch.setattr(group, "LOOK_S", 1.0)
    topic.make(stack.bootstrap, "forgotten")

    def joined() -> Membership:
        return Membership(stack.bootstrap, "forgetful", "forgotten", session_s=2, on_lost=lambda: None)

    first = joined()
    try:
        wait_until(lambda: first.has_ended)
        assert not first.take(0)
    finally:
        first.close()
    knows.append(True)
    second = joined()
    try:
        assert second.take(30)
    finally:
        second.close()
