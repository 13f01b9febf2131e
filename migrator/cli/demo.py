"""``demo``: the main job on two embedded servers, under load, in under two minutes."""

from __future__ import annotations

import sys
import time

import click

from contexts.errors import ExitCode
from contexts.model import Side


@click.command()
@click.option("--shared-major", default=16, show_default=True, help="PostgreSQL of the shared database.")
@click.option("--service-major", default=18, show_default=True, help="PostgreSQL of the service database.")
@click.option("--rate", default=260.0, show_default=True, help="Write transactions per second.")
def demo(shared_major: int, service_major: int, rate: float) -> None:
    """Move the wallet example live, with a kill -9 in the middle, there, back and there again."""
    from migrator.demo.play import Size, play
    from migrator.demo.stage import Stage

    began = time.monotonic()

    def say(line: str) -> None:
        click.echo(f"[{time.monotonic() - began:5.1f} s] {line}")

    with Stage({Side.SHARED: shared_major, Side.SERVICE: service_major}) as stage:
        verdict = play(stage, say, Size(rate=rate))
    lost = sum(problem.kind == "lost" for problem in verdict.problems)
    doubled = sum(problem.kind == "doubled" for problem in verdict.problems)
    say(f"{lost} lost, {doubled} doubled, {len(verdict.problems)} problems in all: "
        + ("PASSED" if verdict.passed else "FAILED"))  # fmt: skip
    sys.exit(ExitCode.DONE if verdict.passed else ExitCode.DIFFERENCES)
