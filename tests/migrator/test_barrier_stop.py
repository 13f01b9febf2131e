"""A barrier that was not reached must never be handed over: the proof would compare two different moments."""

from __future__ import annotations

from cdc.worker.barrier import make_barrier
from cdc.worker.signals import BarrierSnapshots, NoBarrier
from contexts.databases import Databases


class Request:
    hold_s = 0.0
    wants_recent_keys = False

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.snapshots: list[BarrierSnapshots] = []

    def reached(self, snapshots: BarrierSnapshots) -> bool:
        self.snapshots.append(snapshots)
        return True

    def failed(self, reason: str, why: NoBarrier = NoBarrier.FAILED) -> None:
        self.reasons.append(reason)

    def is_released(self) -> bool:
        return True


def test_a_worker_that_is_stopped_on_the_way_hands_nothing_over(pair: Databases) -> None:
    request = Request()
    held = make_barrier(
        pair.shared, pair.service, "bank", timeout_s=10, apply_until=lambda lsn: False, request=request
    )  # fmt: skip
    assert held is None
    assert request.reasons == ["the worker was told to stop before the barrier"]
    assert request.snapshots == []
