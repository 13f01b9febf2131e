"""What surrounds the rows on both sides, looked at by ``verify``."""

from __future__ import annotations

from collections.abc import Iterable

from contexts import schema
from contexts.databases import Databases
from contexts.model import Context, Side
from validations.parity.finding import Finding, Parity
from validations.parity.grants import grants
from validations.parity.sequences import sequences


def look(context: Context, both: Databases, open_side: Side) -> Parity:
    """Compare schema and sequences of the two sides, and look for grants that a side lacks."""
    with both[open_side].connect("verify") as ours, both[open_side.other].connect("verify") as theirs:
        lacking = [
            f"the {side} side: {line}"
            for side, conn in ((open_side, ours), (open_side.other, theirs))
            for line in _lines(grants(conn, context))
        ]
        return Parity(
            _schema_differences(both, context),
            tuple(_lines(sequences(ours, theirs, context.table_names))),
            tuple(lacking),
        )


def _schema_differences(both: Databases, context: Context) -> tuple[str, ...]:
    checked = schema.check(both, context)
    lines = [str(difference) for difference in checked.differences]
    if checked.current != checked.head:
        lines.append(f"the service database is at revision {checked.current}, not {checked.head}")
    return tuple(lines)


def _lines(findings: Iterable[Finding]) -> list[str]:
    return [f"{finding.object}: {finding.detail}" for finding in findings]
