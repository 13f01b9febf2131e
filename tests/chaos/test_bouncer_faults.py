"""Deaths in a switch behind PgBouncers, in short; ``make chaos ARGS=bouncer_faults`` walks them all."""

from __future__ import annotations

from pathlib import Path

from contexts.model import Side
from tests.chaos.bouncer_faults import Case, faults

CASES = (
    Case("worker", "switch.gate_closed"),
    Case("service", "switch.repointed"),
    Case("shared", "switch.committed", Side.SHARED),
)


def test_whatever_dies_resume_puts_it_right(tmp_path: Path) -> None:
    assert len(faults(tmp_path, CASES)) == len(CASES)
