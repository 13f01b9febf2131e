"""Lockstep under load, in short; ``python -m tests.chaos.lockstep`` runs it long. Mutants must be noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from contexts.databases import Databases
from migrator.lockstep import keeper, recovery
from tests.chaos.lockstep import lockstep


def test_both_sides_stay_equal_while_the_phase_flips(tmp_path: Path, pair: Databases) -> None:
    seen = lockstep(tmp_path, pair, transactions=600, processes=2, per_phase=80)
    assert seen.problems == ()
    assert seen.acknowledged == 600
    assert seen.flips >= 5
    assert seen.dual > 100


def test_a_shim_without_the_gate_is_noticed(tmp_path: Path, pair: Databases) -> None:
    seen = lockstep(tmp_path, pair, transactions=600, processes=3, per_phase=30, mutant="no gate")
    assert [problem for problem in seen.problems if "writes refused" in problem]


def test_a_recovery_that_guesses_is_noticed(tmp_path: Path, pair: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "decision", lambda *_: False)
    monkeypatch.setattr(keeper, "ORPHAN_S", 0.0)
    monkeypatch.setattr(keeper, "TICK_S", 0.001)
    seen = lockstep(tmp_path, pair, transactions=120, processes=2, per_phase=60)
    assert [problem for problem in seen.problems if "differ" in problem]
