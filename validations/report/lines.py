"""Lag and rate over time as SVG lines; what they say at most and in the middle stands there as text too."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from validations.report.chart import duration
from validations.report.markup import NOTHING, Markup, join, tag
from validations.report.model import Sample, Switch

WIDTH, HEIGHT = 360, 118
_LEFT, _RIGHT, _TOP, _BOTTOM = 4, 4, 14, 16
#: Points of a line: more cannot be told apart.
MOST_POINTS = 240
#: A worker that says nothing for longer leaves a gap, in units of the usual distance between samples.
_GAP = 5
Point = tuple[dt.datetime, float]


def lag(samples: Sequence[Sample], switches: Sequence[Switch]) -> Markup:
    """How far the closed side was behind, in seconds, while something streamed."""
    points = [(one.at, one.lag_s) for one in samples if one.lag_s is not None and one.phase == "streaming"]
    return _figure("Lag of the closed side", points, switches, lambda lag_s: duration(dt.timedelta(seconds=lag_s)))


def rate(samples: Sequence[Sample], switches: Sequence[Switch]) -> Markup:
    """Rows a second, copied or applied."""
    points = [(one.at, one.rows_per_s) for one in samples if one.rows_per_s is not None]
    return _figure("Rows a second, copied or applied", points, switches, lambda value: f"{value:,.0f}/s")


def _figure(title: str, points: Sequence[Point], switches: Sequence[Switch], say: Callable[[float], str]) -> Markup:
    if len(points) < 2:
        return NOTHING
    values = [value for _, value in points]
    said = f"{title}: at most {say(max(values))}, half of the time {say(statistics.median(values))} or less."
    return tag("figure", tag("figcaption", said), _chart(title, _thinned(points), switches, say))


def _chart(title: str, points: Sequence[Point], switches: Sequence[Switch], say: Callable[[float], str]) -> Markup:
    begin, end = points[0][0], points[-1][0]
    span, top = (end - begin).total_seconds() or 1.0, max(value for _, value in points) or 1.0

    def x(at: dt.datetime) -> float:
        return _LEFT + (at - begin).total_seconds() / span * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - value / top * (HEIGHT - _TOP - _BOTTOM)

    base = HEIGHT - _BOTTOM
    drawn = [tag("path", d=_path([(x(at), y(value)) for at, value in run]), class_="line") for run in _runs(points)]
    seen = [switch for switch in switches if begin <= switch.started_at <= end]
    marks = [_switched(x(switch.started_at), number, switch) for number, switch in enumerate(seen)]
    return tag(
        "svg",
        tag("title", title),
        tag("line", x1=_LEFT, y1=_TOP, x2=WIDTH - _RIGHT, y2=_TOP, class_="axis"),
        tag("line", x1=_LEFT, y1=base, x2=WIDTH - _RIGHT, y2=base, class_="axis"),
        *marks,
        *drawn,
        tag("text", say(top), x=_LEFT, y=_TOP - 4),
        tag("text", f"{begin.astimezone(dt.UTC):%m-%d %H:%M}", x=_LEFT, y=HEIGHT - 4),
        tag("text", f"{end.astimezone(dt.UTC):%m-%d %H:%M} UTC", x=WIDTH - _RIGHT, y=HEIGHT - 4, text_anchor="end"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title,
    )  # fmt: skip


def _switched(place: float, number: int, switch: Switch) -> Markup:
    near_the_end = place > WIDTH * 0.8
    # In three heights: neighbours stay readable.
    where = {"x": place + (-3 if near_the_end else 3), "y": float(_TOP + 10 + number % 3 * 11)}
    label = tag("text", f"to {switch.to_side}", **where, text_anchor="end" if near_the_end else "start")
    return join([tag("line", x1=place, y1=_TOP, x2=place, y2=HEIGHT - _BOTTOM, class_="switch"), label])


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places) + ("h1" if len(places) == 1 else "")


def _thinned(points: Sequence[Point]) -> list[Point]:
    """The highest of each stretch: a peak never disappears."""
    size = -(-len(points) // MOST_POINTS)
    return [max(points[i : i + size], key=lambda point: point[1]) for i in range(0, len(points), size)]


def _runs(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Stretches without a gap."""
    distances = [(b[0] - a[0]).total_seconds() for a, b in pairwise(points)]
    gap = _GAP * max(statistics.median(distances), 1.0) if distances else 0.0
    run = [points[0]]
    for distance, point in zip(distances, points[1:], strict=True):
        if distance > gap:
            yield run
            run = []
        run.append(point)
    yield run
