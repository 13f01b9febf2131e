"""Samples of lag and rate: bounded, and the worst lag is never merged away."""

from __future__ import annotations

import pytest

from contexts.databases import Databases
from migrator import control
from migrator.control import samples
from migrator.control.samples import Sampler


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_a_sample_has_the_worst_lag_and_the_mean_rate(pair: Databases, clock: list[float]) -> None:
    control.install(pair.shared)
    sampler = Sampler("wallet")
    with pair.shared.connect("test") as conn:

        def report(seconds: float, rows: int, lag_s: float, phase: str = "streaming") -> None:
            clock[0] += seconds
            copied = {"copy": {"rows": rows}} if phase == "copying" else {"rows": rows}
            sampler.take(conn, {"phase": phase, "lag_s": lag_s, "lag_bytes": int(lag_s * 10), **copied})

        for phase, rows in (("waiting", 0), ("copying", 100), ("copying", 600)):
            report(5, rows, 0, phase)
        for lag_s in (0.5, 9.0, 0.5, 0.5, 0.5, 0.5):
            report(1, 700, lag_s)
        report(1, 10, 0.1)  # a worker that begins anew
        report(5, 60, 0.2)
        found = samples.read(conn, "wallet")
        assert [(s.phase, s.rows_per_s, s.lag_s, s.lag_bytes) for s in found] == [
            ("copying", 100.0, 0.0, 0),
            ("streaming", 0.0, 9.0, 90),
            ("streaming", 10.0, 0.2, 2),
        ]
        assert samples.read(conn, "history") == []


def test_there_are_never_too_many(pair: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MOST", 20)
    with pair.shared.connect("test") as conn:
        assert samples.read(conn, "wallet") == []  # before anything is prepared
        samples.add(conn, "wallet", {"phase": "streaming", "lag_s": 1.0, "lag_bytes": 1, "rows_per_s": 1.0})
        control.install(pair.shared)
        for number in range(200):
            lag = 77.0 if number == 3 else 1.0
            samples.add(conn, "wallet", {"phase": "streaming", "lag_s": lag, "lag_bytes": 1, "rows_per_s": 1.0})
        samples.add(conn, "other", {"phase": "streaming", "lag_s": 1.0, "lag_bytes": 1, "rows_per_s": 1.0})
        found = samples.read(conn, "wallet")
    assert 10 <= len(found) <= 20
    assert [sample.at for sample in found] == sorted(sample.at for sample in found)
    assert max(sample.lag_s or 0 for sample in found) == 77.0
    assert {sample.rows_per_s for sample in found} == {1.0}
