"""The comparison as a table for people and as JSON for machines."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.harness import Comparison

#: Below this share of other processes, the times can be believed.
_QUIET = 0.05
_HEAD = ("", "median s", "min - max", "ratio", "rows/s", "CPU s client/source/target", "client share", "peak MB c/s/t")


def table(comparison: Comparison) -> str:
    """Aligned columns. The ratio is to the first contestant: 2.00 took twice as long."""
    base = comparison.median(next(iter(comparison.rounds)))
    rows = [_HEAD, *(_row(comparison, name, base) for name in comparison.rounds)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(
        [
            f"{comparison.job}: {comparison.units:,} rows, {comparison.setting}",
            *lines,
            *_startup(comparison),
            *_busy(comparison),
        ]
    )


def write_json(path: Path, comparisons: Sequence[Comparison]) -> None:
    """One file with the machine and every round of every comparison."""
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    content = {"machine": machine, "comparisons": [one.as_json() for one in comparisons]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def _startup(comparison: Comparison) -> list[str]:
    """What was left out of the times, where a contestant says so."""
    started = {
        name: statistics.median(one.details["startup_s"] for one in rounds)
        for name, rounds in comparison.rounds.items()
        if all("startup_s" in one.details for one in rounds)
    }
    told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in started.items())
    return [f"Start-up, not in the times: {told}."] if told else []


def _busy(comparison: Comparison) -> list[str]:
    """A warning where something else ran, which makes times worthless and leaves CPU seconds as they are."""
    others = statistics.median(one.others for rounds in comparison.rounds.values() for one in rounds)
    if others < _QUIET:
        return []
    return [f"Other processes took {others:.0%} of the machine meanwhile: compare the CPU seconds, not the times."]


def _row(comparison: Comparison, name: str, base: float) -> tuple[str, ...]:
    rounds, median = comparison.rounds[name], comparison.median(name)
    seconds = [one.seconds for one in rounds]
    return (
        name,
        f"{median:.2f}",
        f"{min(seconds):.2f} - {max(seconds):.2f}",
        f"{median / base:.2f}",
        f"{comparison.units / median:,.0f}",
        _by_process([one.cpu_s for one in rounds], ".1f"),
        f"{statistics.median(one.cpu_s['client'] / (sum(one.cpu_s.values()) or 1) for one in rounds):.0%}",
        _by_process([one.peak_mb for one in rounds], ".0f"),
    )


def _by_process(readings: list[dict[str, float]], form: str) -> str:
    medians = (statistics.median(one[who] for one in readings) for who in ("client", "source", "target"))
    return " / ".join(format(value, form) for value in medians)
