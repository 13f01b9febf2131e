"""The time line and the time without writes, as SVG that prints; every number stands there as text too."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from validations.report.markup import NOTHING, Markup, tag
from validations.report.model import Event, Switch

WIDTH, _LEFT, _ROW = 360, 116, 18
_RIGHT = 60
#: Letters that have room beside a bar.
_LABEL = 22
#: A chart stays small: the newest ones.
MOST_ROWS = 30


@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    start: float
    length: float
    text: str


def timeline(events: Sequence[Event], until: dt.datetime) -> Markup:
    """The states of the migration, each from its begin to the next one; the last one to ``until``."""
    spells = [*_spells(events, until)][-MOST_ROWS:]
    if not spells:
        return NOTHING
    begin = spells[0][1]
    bars = [
        _Bar(state, (start - begin).total_seconds(), (end - start).total_seconds(), duration(end - start))
        for state, start, end in spells
    ]
    return _chart(bars, "States of the migration over time")


def blocked(switches: Sequence[Switch]) -> Markup:
    """How long each switch kept writes waiting."""
    bars = [
        _Bar(f"to {s.to_side} ({s.outcome})", 0.0, s.blocked_ms, f"{s.blocked_ms:.0f} ms")
        for s in switches[-MOST_ROWS:]
        if s.blocked_ms is not None
    ]
    return _chart(bars, "Time without writes of each switch, in milliseconds") if bars else NOTHING


def duration(span: dt.timedelta) -> str:
    """A span in the two units that matter."""
    seconds = span.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if minutes < 60:
        return f"{int(minutes)} min {int(seconds % 60)} s"
    return f"{int(hours)} h {int(minutes % 60)} min" if hours < 48 else f"{int(days)} d {int(hours % 24)} h"


def _spells(events: Sequence[Event], until: dt.datetime) -> Iterator[tuple[str, dt.datetime, dt.datetime]]:
    changes = [(str(event.detail.get("to")), event.at) for event in events if event.kind == "state"]
    ends = [at for _, at in changes[1:]] + [max(until, changes[-1][1])] if changes else []
    for (state, start), end in zip(changes, ends, strict=True):
        yield state, start, end


def _chart(bars: Sequence[_Bar], title: str) -> Markup:
    longest = max(bar.start + bar.length for bar in bars) or 1.0
    scale = (WIDTH - _LEFT - _RIGHT) / longest
    height = len(bars) * _ROW + 4
    axis = tag("line", x1=_LEFT, y1=0, x2=_LEFT, y2=height, class_="axis")
    rows = [
        element for number, bar in enumerate(bars)
        for element in _row(bar, number * _ROW + 2, _LEFT + bar.start * scale, max(1.5, bar.length * scale))
    ]  # fmt: skip
    return tag("svg", tag("title", title), axis, *rows, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=title)


def _row(bar: _Bar, top: int, left: float, width: float) -> list[Markup]:
    return [
        tag("text", bar.label[:_LABEL], x=0, y=top + 11),
        tag("rect", x=left, y=top, width=width, height=_ROW - 4, class_="bar"),
        tag("text", bar.text, x=left + width + 4, y=top + 11),
    ]
