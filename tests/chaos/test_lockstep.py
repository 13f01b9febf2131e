"""Lockstep under load, in short; ``python -m tests.chaos.lockstep`` runs it long. A mutant must be noticed."""

from __future__ import annotations

from pathlib import Path

from contexts.databases import Databases
from tests.chaos.lockstep import lockstep


def test_both_sides_stay_equal_while_the_phase_flips(tmp_path: Path, pair: Databases) -> None:
    seen = lockstep(tmp_path, pair, transactions=600, processes=2, per_phase=80)
    assert seen.problems == (), seen
    assert seen.acknowledged == 600
    assert seen.flips >= 4, seen
    assert seen.dual > 50, seen


def test_a_shim_without_the_gate_is_noticed(tmp_path: Path, pair: Databases) -> None:
    seen = lockstep(tmp_path, pair, transactions=600, processes=3, per_phase=30, mutant="no gate")
    assert [problem for problem in seen.problems if "writes refused" in problem]
