"""Lockstep under load, in short; ``python -m tests.chaos.lockstep`` runs it long. A mutant must be noticed."""

from __future__ import annotations

from pathlib import Path

from contexts.databases import Databases
from tests.chaos.lockstep import Course, lockstep


def test_both_sides_stay_equal_while_the_phase_flips(tmp_path: Path, pair: Databases) -> None:
    """And every comparison meanwhile says so."""
    seen = lockstep(tmp_path, pair, Course(600, flips=8, processes=2, per_phase=50, verify=True))
    assert seen.problems == (), seen
    assert seen.acknowledged >= 600
    assert seen.flips >= 8
    assert seen.dual >= 4 * (50 - 2)  # but for those that were under way
    assert seen.verified > 0


def test_a_shim_without_the_gate_is_noticed(tmp_path: Path, pair: Databases) -> None:
    seen = lockstep(tmp_path, pair, Course(600, flips=20, processes=3, per_phase=20, mutant="no gate"))
    assert [problem for problem in seen.problems if "writes refused" in problem]
