"""The sections of the page."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

from cdc.lsn import format_lsn
from contexts.model import TableName
from validations.diff.model import Difference, DiffResult, TableResult, Verdict
from validations.invariants.model import Checked, Outcome, Result, State
from validations.invariants.reading import keys
from validations.parity.finding import Parity
from validations.report.markup import NOTHING, Child, Markup, items, join, table, tag


def section(title: str, *content: Child) -> Markup:
    """A heading with what belongs under it."""
    return tag("section", tag("h2", title), *content)


def compared(result: DiffResult | None, sizes: Mapping[TableName, int]) -> Markup:
    """What was compared, when and where in the stream."""
    if result is None:
        return section("What was compared", tag("p", "Nothing was compared yet."))
    facts = [
        ("verification", str(result.verification)),
        ("open side", str(result.open_side)),
        ("began", time(result.started_at)),
        ("ended", time(result.finished_at)),
        ("oldest part compared", time(result.oldest_at)),
        ("positions", f"{lsn(result.lsn_first)} to {lsn(result.lsn_last)}"),
        ("rows of the open side", f"{result.rows:,}"),
        ("size of its tables now", size(sum(sizes.values())) if sizes else "-"),
        ("differing rows", f"{result.differences:,}"),
        ("schema fingerprint", result.schema_fingerprint),
    ]
    # What needs to be looked at comes first.
    tables = sorted(result.tables, key=lambda one: one.verdict is Verdict.EQUAL)
    rows: list[list[Child]] = [[str(one.table), mark(one.verdict is Verdict.EQUAL, one.verdict), *_counts(one),
             size(sizes.get(one.table)), one.problem or str(one.method or "")] for one in tables]  # fmt: skip
    head = ("table", "verdict", "rows open", "rows closed", "missing on closed", "missing on open", "different",
            "segments", "size", "method")  # fmt: skip
    return section(
        "What was compared",
        tag("dl", *[tag(name, text) for fact in facts for name, text in zip(("dt", "dd"), fact, strict=True)]),
        tag("h3", "Tables"),
        table(head, rows),
    )


def _counts(one: TableResult) -> list[str]:
    counted = (one.rows_open, one.rows_closed, one.missing_on_closed, one.missing_on_open, one.different)
    segments = f"{one.segments_done:,}" if one.segments_done == one.segments else (
        f"{one.segments_done:,} of {one.segments:,}")  # fmt: skip
    return [*(f"{count:,}" for count in counted), segments]


def differences(found: Sequence[tuple[TableName, Difference]], total: int) -> Markup:
    """The differing keys that the report holds; values only where the verification stored them."""
    if not found:
        return NOTHING
    rows = [(str(name), one.kind, ", ".join(one.key), _columns(one)) for name, one in found]
    more = [tag("p", f"The first {len(found)} of {total} differing rows.")] if total > len(found) else []
    return section("Differing rows", *more, table(("table", "kind", "key", "columns"), rows))


def invariants(checked: Checked | None) -> Markup:
    """Each invariant with its statement and what the sides answered."""
    if checked is None:
        return section("Invariants", tag("p", "None was checked with this verification."))
    held = sum(result.state is State.HOLDS for result in checked.results)
    said = f"{held} of {len(checked.results)} hold, at {format_lsn(checked.lsn)}, {time(checked.at)}."
    return section("Invariants", tag("p", said), *[_invariant(result) for result in checked.results])


def surroundings(parity: Parity | None) -> Markup:
    """Schema, sequences and grants."""
    if parity is None:
        return section("Around the rows", tag("p", "Not looked at with this verification."))
    later = "a closed side that is behind is no fault: a switch sets its sequences."
    return section(
        "Around the rows",
        tag("h3", "Schema"),
        *_findings(parity.schema, "The same on both sides."),
        tag("h3", "Sequences"),
        *_findings(parity.sequences, "None is behind."),
        tag("p", f"Until the switch {later}", class_="soft") if parity.sequences else NOTHING,
        tag("h3", "Grants"),
        *_findings(parity.grants, "No declared grant is missing."),
    )


def mark(good: bool, text: str) -> Markup:
    """A verdict by sign and word; the colour only adds to it."""
    return tag("span", f"{'✓' if good else '✗'} {text}", class_="good" if good else "bad")


def time(at: dt.datetime | None) -> str:
    """A moment in UTC, to the second."""
    return "-" if at is None else at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(count: int | None) -> str:
    """Bytes in the unit that suits."""
    if count is None:
        return "-"
    number, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:,.0f} B" if units[0] == "B" else f"{number:,.1f} {units[0]}"


def lsn(position: int | None) -> str:
    """A position as PostgreSQL writes it."""
    return "-" if position is None else format_lsn(position)


def _invariant(result: Result) -> Markup:
    one = result.invariant
    kept = [f"{outcome.side}: {keys(violation)}" for outcome in result.outcomes for violation in outcome.violations]
    more = [
        f"{outcome.side}: and {outcome.rows - len(outcome.violations)} more"
        for outcome in result.outcomes if outcome.rows > len(outcome.violations)
    ]  # fmt: skip
    return join([
        tag("h3", mark(result.state is State.HOLDS, result.state), f" {one.name} ({one.severity})"),
        tag("p", one.proves),
        table(("side", "answer", "time"), [(o.side, _answer(o), f"{o.milliseconds:.0f} ms") for o in result.outcomes]),
        items(kept + more) if kept or more else NOTHING,
        tag("pre", one.sql),
    ])  # fmt: skip


def _answer(outcome: Outcome) -> str:
    if outcome.error:
        return f"error: {outcome.error}"
    return f"{outcome.rows:,} violating rows" if outcome.number is None else f"{outcome.number:,}"


def _findings(lines: Iterable[str], none: str) -> list[Markup]:
    found = list(lines)
    return [items(found)] if found else [tag("p", none)]


def _columns(one: Difference) -> str:
    if one.open_values is None or one.closed_values is None:
        return ", ".join(one.columns)
    shown = zip(one.columns, one.open_values, one.closed_values, strict=True)
    return "; ".join(f"{name}: open {ours!r}, closed {theirs!r}" for name, ours, theirs in shown)
