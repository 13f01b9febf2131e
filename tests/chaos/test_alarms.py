"""No false alarm, in short; ``make chaos`` runs a thousand rounds."""

from __future__ import annotations

from pathlib import Path

from contexts.databases import Databases
from tests.chaos.alarms import CONTROL, alarms


def test_no_false_alarm_over_random_live_load(tmp_path: Path, pair: Databases) -> None:
    seen = alarms(tmp_path, pair, rounds=20)
    assert seen.red == []
    assert seen.control == CONTROL
    assert (seen.rounds, len(seen.positions)) == (20, 20)
    assert seen.transactions > 20
