"""The page: the verdict first, then what it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import resources
from string import Template

from validations.diff.model import Verdict
from validations.invariants.model import State
from validations.report import dual, expecting, history, ruling, sections
from validations.report.markup import Markup, items, join, tag
from validations.report.model import Report


def render(report: Report) -> str:
    """The report as one HTML file that needs nothing else."""
    result = report.verification
    body = join([
        _head(report),
        _verdict(report),
        sections.compared(result, report.sizes),
        sections.differences(report.differences, result.differences if result else 0),
        sections.invariants(report.invariants),
        expecting.suites(report.suites),
        ruling.rules(report.rules, report.violations),
        dual.lockstep(report.lockstep),
        sections.surroundings(report.parity),
        history.timeline(report),
        history.events(report.events),
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
    good = report.passed
    said = [tag("strong", f"{'✓' if good else '✗'} {_word(report)}")]
    if report.problem:
        said.append(tag("p", report.problem, class_="why"))
    said.append(items(_rests_on(report)))
    standing = f"The migration is {report.state}; the {report.open_side} side is open (epoch {report.epoch})."
    said.append(tag("p", standing))
    if report.no_switch_because:
        said.append(tag("p", f"A switch would be refused now: {report.no_switch_because}."))
    return tag("div", *said, class_=f"verdict {'good' if good else 'bad'}")


def _rests_on(report: Report) -> Iterator[Markup]:
    """A line for each part of the proof."""
    result, checked, suites = report.verification, report.invariants, report.suites
    if result is None:
        return
    place = f"at {sections.lsn(result.lsn_last)}, {sections.time(result.finished_at)}"
    rows = f"{result.rows:,} rows of {len(result.tables)} tables, {result.differences:,} differences, {place}"
    yield sections.mark(result.verdict is Verdict.EQUAL, rows)
    if report.parity is not None:
        lines = len(report.parity.schema)
        yield sections.mark(not lines, f"{lines} differences of the schema" if lines else "the same schema")
    if checked is not None:
        held = sum(one.state is State.HOLDS for one in checked.results)
        yield sections.mark(checked.passed, f"{held} of {len(checked.results)} invariants hold")
    if suites is not None:
        met, all_ = sum(one.met for one in suites.suites), sum(len(one.results) for one in suites.suites)
        warned = f"; {all_ - met} only warn" if suites.passed and met < all_ else ""
        yield sections.mark(suites.passed, f"{met} of {all_} expectations of the suites are met{warned}")
    if report.rules:
        yield sections.mark(not report.violations, f"{len(report.violations)} violations of {len(report.rules)} rules")


def _word(report: Report) -> str:
    return "PROVEN EQUAL" if report.passed else "NOT PROVEN"
