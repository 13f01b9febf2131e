"""``demo``: the main job on two embedded servers, under load, in under two minutes."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from contexts.errors import ExitCode
from contexts.model import Side

if TYPE_CHECKING:
    from migrator.demo.stage import Stage


@click.command()
@click.option("--shared-major", default=16, show_default=True, help="PostgreSQL of the shared database.")
@click.option("--service-major", default=18, show_default=True, help="PostgreSQL of the service database.")
@click.option("--rate", default=260.0, show_default=True, help="Write transactions per second.")
@click.option("--kafka", is_flag=True, help="Stream through a real Kafka and Debezium (needs Java 17 and Maven).")
def demo(shared_major: int, service_major: int, rate: float, kafka: bool) -> None:
    """Move the wallet example live, with a kill -9 in the middle, there, back and there again."""
    from migrator.demo.play import Size, play

    began = time.monotonic()

    def say(line: str) -> None:
        click.echo(f"[{time.monotonic() - began:5.1f} s] {line}")

    with _stage({Side.SHARED: shared_major, Side.SERVICE: service_major}, say, kafka=kafka) as stage:
        verdict = play(stage, say, Size(rate=rate))
    lost = sum(problem.kind == "lost" for problem in verdict.problems)
    doubled = sum(problem.kind == "doubled" for problem in verdict.problems)
    say(f"{lost} lost, {doubled} doubled, {len(verdict.problems)} problems in all: "
        + ("PASSED" if verdict.passed else "FAILED"))  # fmt: skip
    sys.exit(ExitCode.DONE if verdict.passed else ExitCode.DIFFERENCES)


@contextmanager
def _stage(majors: dict[Side, int], say: Callable[[str], None], *, kafka: bool) -> Iterator[Stage]:
    from migrator.demo.stage import Stage

    if not kafka:
        with Stage(majors) as stage:
            yield stage
        return
    from cdc.kafka.stack import Stack
    from migrator.demo.through_kafka import KafkaStage

    with tempfile.TemporaryDirectory(prefix="carveout-kafka-") as folder, Stack(Path(folder)) as stack:
        took = ", ".join(f"{name} in {seconds:.0f} s" for name, seconds in stack.timings.items())
        say(f"Kafka, Connect and Debezium are up ({took})")
        with KafkaStage(majors, stack) as stage:
            yield stage
