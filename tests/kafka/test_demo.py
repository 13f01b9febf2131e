"""``make demo-kafka`` in short: the story of the demo, with its stream through Kafka."""

from __future__ import annotations

from cdc.kafka.stack import Stack
from contexts.embedded import available_majors
from contexts.model import Side
from migrator.demo.play import Size, play
from migrator.demo.through_kafka import KafkaStage
from tests.conftest import need
from tests.kafka.moving import left


def test_the_demo_loses_and_doubles_nothing(stack: Stack) -> None:
    for major in (16, 18):
        need(f"postgres{major}", major in available_majors(), "install that PostgreSQL server")
    with KafkaStage({Side.SHARED: 16, Side.SERVICE: 18}, stack) as stage:
        verdict = play(stage, print, Size(accounts=200, payments=4_000, rate=60, between=40))
    assert verdict.passed, verdict
    assert left(stack, "carveout_wallet") == [], "complete leaves no connector and no topic"
