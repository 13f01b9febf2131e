"""The section of lockstep: applications that write both sides, and what the audit says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from validations.report.markup import NOTHING, Child, Markup, table, tag
from validations.report.sections import mark, section, time


def lockstep(summary: Mapping[str, Any] | None) -> Markup:
    """Nothing where nobody ever asked for lockstep; the summary is that of ``status``."""
    if summary is None:
        return NOTHING
    found = f"{summary['found']:,} differences found, {summary['differences']:,} of them stand"
    facts: list[tuple[str, Child]] = [
        ("written", str(summary["mode"])),
        ("transactions audited", f"{summary['audited']:,}"),
        ("audit", mark(not summary["found"], found)),
        ("prepared now", f"{summary['prepared']:,}"),
        ("reads on the service side", f"{summary['service_reads']:g} %"),
    ]
    return section(
        "Written to both sides",
        tag("dl", *[part for name, value in facts for part in (tag("dt", name), tag("dd", value))]),
        *_shadow_reads(summary["shadow_reads"]),
        *_writers(summary["unshimmed"]),
    )


def _shadow_reads(read: Sequence[Mapping[str, Any]]) -> list[Markup]:
    rows = [
        (one["statement"], f"{one['runs']:,}", mark(not one["differences"], f"{one['differences']:,}"),
         f"{one['errors']:,}", f"{one['undecided']:,}", f"{one['shared_ms']:.1f} ms", f"{one['service_ms']:.1f} ms")
        for one in read
    ]  # fmt: skip
    head = ("statement", "runs", "differ", "errors", "undecided", "shared side", "service side")
    return [tag("h3", "Reads run on both sides"), table(head, rows)] if rows else []


def _writers(unshimmed: Sequence[Mapping[str, Any]]) -> list[Markup]:
    rows = [
        (one["role"], one["application"] or "-", one["table"], f"{one['transactions']:,}", time(one["last_seen"]))
        for one in unshimmed
    ]
    head = ("role", "application", "table", "transactions", "the last")
    return [tag("h3", "Writers without the shim"), table(head, rows)] if rows else []
