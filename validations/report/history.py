"""The sections of what happened: states, lag and rate, switches, and who ran what."""

from __future__ import annotations

import json
from collections.abc import Sequence

from validations.report import chart, lines
from validations.report.markup import NOTHING, Markup, table, tag
from validations.report.model import Event, Report, Switch
from validations.report.sections import section, time


def timeline(report: Report) -> Markup:
    """The states over time, and how long each switch kept writes waiting."""
    done = [switch for switch in report.switches if switch.outcome == "finished"]
    rows = [
        (
            time(s.started_at), f"{s.from_side} to {s.to_side}", s.outcome, _blocked(s), _parts(s),
            "-" if s.rechecked_keys is None else f"{s.rechecked_keys:,} of {s.changed_keys:,}", s.reason or "",
        )
        for s in report.switches
    ]  # fmt: skip
    head = ("began", "direction", "outcome", "writes blocked", "parts (ms)", "keys rechecked", "reason")
    charts = [one for one in (lines.lag(report.samples, done), lines.rate(report.samples, done)) if one.text]
    switches = table(head, rows) if rows else tag("p", "There was no switch.")
    return section(
        "Time line",
        chart.timeline(report.events, report.made_at),
        tag("div", *charts, class_="charts") if charts else NOTHING,
        tag("h3", "Switches and the time without writes"),
        chart.blocked(report.switches),
        switches,
    )


def events(found: Sequence[Event]) -> Markup:
    """Who ran what."""
    rows = [(time(event.at), event.actor, event.kind, _detail(event)) for event in found]
    return section("Who ran what", table(("when", "who", "what", "detail"), rows) if rows else tag("p", "Nothing yet."))


def _blocked(switch: Switch) -> str:
    return "-" if switch.blocked_ms is None else f"{switch.blocked_ms:.0f} ms"


def _parts(switch: Switch) -> str:
    return ", ".join(f"{part} {milliseconds:.0f}" for part, milliseconds in switch.parts.items())


def _detail(event: Event) -> str:
    values = {key: value for key, value in event.detail.items() if value is not None}
    return ", ".join(f"{key}: {v if isinstance(v, str) else json.dumps(v, default=str)}" for key, v in values.items())
