"""The page: the verdict first, then what it rests on."""

from __future__ import annotations

from functools import cache
from importlib import resources
from string import Template

from validations.report import ruling, sections
from validations.report.markup import Markup, join, tag
from validations.report.model import Report


def render(report: Report) -> str:
    """The report as one HTML file that needs nothing else."""
    result = report.verification
    body = join([
        _head(report),
        _verdict(report),
        sections.compared(result),
        sections.differences(report.differences, result.differences if result else 0),
        sections.invariants(report.invariants),
        ruling.rules(report.rules, report.violations),
        sections.surroundings(report.parity),
        sections.timeline(report),
        sections.events(report.events),
    ])  # fmt: skip
    return _frame().substitute(title=join([f"{report.context}: {_word(report)}"]).text, body=body.text)


@cache
def _frame() -> Template:
    return Template(resources.files("validations.report").joinpath("page.html").read_text(encoding="utf-8"))


def _head(report: Report) -> Markup:
    made = f"Carveout report of {sections.time(report.made_at)}, from stored results."
    return join([
        tag("h1", f"Context {report.context}"),
        tag("p", report.description),
        tag("p", made, class_="soft"),
    ])  # fmt: skip


def _verdict(report: Report) -> Markup:
    good, result = report.passed, report.verification
    said = [tag("strong", f"{'✓' if good else '✗'} {_word(report)}")]
    if report.problem:
        said.append(tag("p", report.problem))
    if result is not None:
        said.append(tag("p", f"{result.rows:,} rows of {len(result.tables)} tables, {result.differences:,} differences,"
                             f" at {sections.lsn(result.lsn_last)}, {sections.time(result.finished_at)}"))  # fmt: skip
    standing = f"The migration is {report.state}; the {report.open_side} side is open (epoch {report.epoch})."
    said.append(tag("p", standing))
    if report.no_switch_because:
        said.append(tag("p", f"A switch would be refused now: {report.no_switch_because}."))
    return tag("div", *said, class_=f"verdict {'good' if good else 'bad'}")


def _word(report: Report) -> str:
    return "PROVEN EQUAL" if report.passed else "NOT PROVEN"
