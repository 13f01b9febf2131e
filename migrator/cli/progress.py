"""How far a comparison is: a line that moves on a terminal, one line every 30 s elsewhere."""

from __future__ import annotations

import sys
import time

import click

from validations.diff.model import Progress

EVERY_S = 30.0


class SegmentProgress:
    """Told after each segment, from one thread at a time."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()
        self._segments = self._rows = 0

    def __call__(self, progress: Progress) -> None:
        """Show it, if it is time."""
        self._segments += 1
        now = time.monotonic()
        if sys.stderr.isatty():
            click.echo(f"\r{self.line(progress, now)}\033[K", err=True, nl=progress.all_done == progress.all_segments)
        elif now - self._told >= EVERY_S:
            self._told = now
            click.echo(self.line(progress, now), err=True)

    def line(self, progress: Progress, now: float) -> str:
        """What is done of all tables, and about how long the rest takes at the rate so far."""
        left = progress.all_segments - progress.all_done
        eta = f", ~{left * (now - self._began) / self._segments:.0f} s left" if left else ""
        return (
            f"{progress.all_done}/{progress.all_segments} segments, {progress.differences} differences in"
            f" {progress.table}{eta}"
        )
