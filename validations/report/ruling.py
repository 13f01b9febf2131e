"""The section of the stream rules."""

from __future__ import annotations

from collections.abc import Sequence

from contexts.rules import Rule
from validations.report.markup import NOTHING, Markup, table, tag
from validations.report.sections import lsn, mark, section, time
from validations.rules.model import Recorded, shown


def rules(declared: Sequence[Rule], broken: Sequence[Recorded]) -> Markup:
    """The rules, and every transaction that broke one."""
    if not declared and not broken:
        return section("Stream rules", tag("p", "The context declares none."))
    counts = {rule.name: sum(one.violation.rule == rule.name for one in broken) for rule in declared}
    verdicts = {name: mark(not count, f"{count} broke it") for name, count in counts.items()}
    rows = [(rule.name, rule.kind, str(rule.table), rule.policy, verdicts[rule.name]) for rule in declared]
    return section(
        "Stream rules",
        tag("p", "Judged on every transaction that passed since the stream began, before its rows were written."),
        table(("rule", "kind", "table", "policy", "transactions"), rows) if rows else NOTHING,
        *([tag("h3", "Transactions that broke a rule"), _violations(broken)] if broken else []),
    )


def _violations(broken: Sequence[Recorded]) -> Markup:
    rows = [
        (
            one.violation.rule, str(one.violation.table), str(one.violation.xid), lsn(one.violation.commit_lsn),
            time(one.violation.committed_at), f"{one.violation.count:,}",
            "; ".join(map(shown, one.violation.keys)), _decision(one),
        )
        for one in broken
    ]  # fmt: skip
    return table(("rule", "table", "xid", "commit", "when", "rows", "first keys", "decision"), rows)


def _decision(one: Recorded) -> str:
    if one.accepted_at:
        return f"accepted by {one.accepted_by}" + (f": {one.reason}" if one.reason else "")
    return "the stream waits" if one.stops else "reported"
