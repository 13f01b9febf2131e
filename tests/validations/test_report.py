"""The report: hostile names stay text, and a real browser lays it out on a phone."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

from contexts.model import Side, TableName
from contexts.rules import AppendOnly
from tests.browser import browser, programs
from tests.conftest import need
from validations.diff.model import Difference, DiffResult, Kind, Method, TableResult
from validations.invariants.model import Checked, Invariant, Outcome, Result, Severity, Violation
from validations.invariants.model import Kind as Answer
from validations.parity.finding import Parity
from validations.report import chart, page
from validations.report.model import Event, Report, Sample, Switch
from validations.rules.model import Recorded
from validations.rules.model import Violation as RuleViolation
from validations.suites.model import Checked as Suites
from validations.suites.model import Expectation, Suite, SuiteResult
from validations.suites.model import Outcome as Asked
from validations.suites.model import Result as Expected
from validations.suites.model import Severity as Warned

AT = dt.datetime(2026, 5, 1, 12, 0, tzinfo=dt.UTC)
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;\u202egpj.\x00\x1b[31m"
EVIL = Invariant(HOSTILE, HOSTILE, f"SELECT '{HOSTILE}'", Severity.ERROR)


def report() -> Report:
    """A green one, as a real move leaves it."""
    tables = (
        TableResult(TableName("wallet", "accounts"), Method.RANGES, "", 3, 3, 2_000, 2_000, 0, 0, 0),
        TableResult(TableName("wallet", "ledger_entries"), Method.RANGES, "", 19, 19, 124_118, 124_118, 0, 0, 0),
    )
    ends = AT + dt.timedelta(seconds=7)
    result = DiffResult(3, Side.SERVICE, AT, ends, AT, 0x1A2B3C4D, 0x1A2B3C4D, "9f" * 32, tables)
    text = "SELECT sum(balance)\nFROM wallet.accounts"
    total = Invariant("total_of_balances", "the same money", text, Severity.CRITICAL, kind=Answer.NUMBER)
    debt = Invariant("no_debt", "no balance is negative", "SELECT id FROM wallet.accounts WHERE balance < 0")
    checked = Checked(0x1A2B3C99, ends, (
        Result(total, tuple(Outcome(side, number=Decimal("1234567.89"), milliseconds=41.2) for side in Side)),
        Result(debt, tuple(Outcome(side, milliseconds=12.9) for side in Side)),
    ))  # fmt: skip
    states = ("prepared", "copying", "streaming", "switching", "switched")
    events = tuple(
        Event(AT + dt.timedelta(seconds=20 * n * n), "operator", "state", {"from": "x", "to": state})
        for n, state in enumerate(states)
    )
    parts = {"gate": 12.0, "drain": 61.0, "verify": 48.0, "open": 22.0}
    switch = Switch(Side.SHARED, Side.SERVICE, "finished", AT, ends, 143.0, parts, 880, 612)
    back = Switch(Side.SERVICE, Side.SHARED, "finished", AT, ends, 97.4)
    size = {table.table: 81_920 * table.segments for table in tables}
    samples = tuple(
        Sample(AT + dt.timedelta(seconds=5 * n), "copying" if n < 40 else "streaming", None if n < 40 else
               0.3 + 0.2 * math.sin(n / 7) + (6.0 if n == 70 else 0.0), None, 9_000 if n < 40 else 260 + n % 9 * 11.0)
        for n in range(110)
    )  # fmt: skip
    undone = Switch(Side.SHARED, Side.SERVICE, "undone", AT, ends, reason="1 rows differ at the fence")
    return Report(
        "wallet", "Prepaid accounts.", AT + dt.timedelta(minutes=9), "switched", Side.SERVICE, 2, result, None, None,
        checked, Parity(sequences=("wallet.accounts.id: behind",)), (), (undone, switch, back), events,
        suites=suites(ends), sizes=size, samples=samples,
    )  # fmt: skip


def suites(at: dt.datetime) -> Suites:
    """Two of a table, one of which warns."""
    money = Expectation("expect_column_values_to_be_exact_money", {"column": "balance", "scale": 2})
    same = Expectation("expect_column_sum_to_equal_other_side", {"column": "balance"})
    warned = Expectation("expect_rows_to_satisfy", {"condition": "owner <> ''"}, Warned.WARNING, "somebody owns it")
    counted = [Asked(side, "", True, 2_000, 0) for side in Side]
    suite = Suite("wallet.accounts", TableName("wallet", "accounts"), "{}", (money, same, warned))
    results = (
        Expected(money, tuple(counted)),
        Expected(same, (Asked(None, "", True, 2_000, None, "1234567.89 on both sides"),)),
        Expected(warned, tuple(Asked(side, "", False, 2_000, 1) for side in Side)),
    )
    return Suites(0x1A2B3D00, at, (SuiteResult(suite, results, 310.0),))


def hostile() -> Report:
    """One in which every text that a database or a file can hold is an attack, and everything is wrong."""
    table = TableName(HOSTILE, HOSTILE)
    given = report()
    assert given.verification is not None
    tables = (TableResult(table, None, HOSTILE, 0, 0, 1, 2, 3, 4, 5),)
    result = replace(given.verification, tables=tables, schema_fingerprint=HOSTILE)
    cells = ((HOSTILE, HOSTILE), ("null", None))
    broken = Outcome(Side.SHARED, HOSTILE), Outcome(Side.SERVICE, rows=9, violations=(Violation(cells, cells),))
    parts = {HOSTILE: 2.0}
    ruled = RuleViolation(HOSTILE, HOSTILE, "report", table, 1, 1, AT, 1, [{HOSTILE: HOSTILE}])
    evil = Expectation(HOSTILE, {HOSTILE: HOSTILE * 9}, Warned.CRITICAL, HOSTILE)
    seen = Asked(Side.SHARED, HOSTILE), Asked(Side.SERVICE, "", False, 9, 9, HOSTILE, (HOSTILE,))
    suite = SuiteResult(Suite(HOSTILE, table, "{}", (evil,)), (Expected(evil, seen),))
    difference = Difference((HOSTILE,), Kind.DIFFERENT, (HOSTILE,), 1, (HOSTILE,), (None,))
    return replace(
        given, context=HOSTILE, description=HOSTILE, state=HOSTILE, verification=result, problem=HOSTILE,
        no_switch_because=HOSTILE, invariants=Checked(1, AT, (Result(EVIL, broken),)),
        parity=Parity((HOSTILE,), (HOSTILE,), (HOSTILE,)), differences=((table, difference),),
        switches=(Switch(Side.SHARED, Side.SERVICE, HOSTILE, AT, None, 1.0, parts, reason=HOSTILE),),
        events=(Event(AT, HOSTILE, "state", {"to": HOSTILE, HOSTILE: [HOSTILE]}),),
        suites=Suites(1, AT, (suite,)), sizes={table: 10**15},
        rules=(AppendOnly(name="ledger", kind="append_only", table=table),),
        violations=(Recorded(Side.SERVICE, 1, 1, ruled, AT, AT, HOSTILE, HOSTILE),),
    )  # fmt: skip


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: dict[str, set[str]] = {}
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.setdefault(tag, set()).update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_texts_stay_text() -> None:
    harmless, attacked = _Elements(page.render(report())), _Elements(page.render(hostile()))
    assert attacked.seen.keys() - harmless.seen.keys() <= {"ul", "li"}
    for name, attributes in attacked.seen.items():
        assert attributes <= harmless.seen.get(name, set()), name
    assert attacked.text.count("<script>alert(1)</script>") >= 20  # shown, everywhere
    assert "\u202e" not in page.render(hostile())  # a name must not be able to look like another one
    assert "\\u202egpj" in attacked.text
    assert "\0" not in page.render(hostile())


def test_the_file_needs_nothing_else() -> None:
    text = page.render(report())
    assert not re.search(r"""(?:src|href|url|@import)\s*[=(]|https?:""", text)
    assert "default-src 'none'" in text


def test_the_verdict_comes_first_and_in_words() -> None:
    good, bad = _Elements(page.render(report())).text, _Elements(page.render(hostile())).text
    assert good.index("✓ PROVEN EQUAL") < good.index("What was compared") < good.index("Invariants")
    assert "126,118 rows of 2 tables, 0 differences, at 0/1A2B3C4D" in good
    assert "✗ NOT PROVEN" in bad
    assert "PROVEN EQUAL" not in bad
    nothing = replace(report(), verification=None, problem="nothing was verified yet", invariants=None, parity=None,
                      switches=(), events=())  # fmt: skip
    assert "✗ NOT PROVEN" in page.render(nothing)


def test_the_numbers_of_the_charts_stand_there_as_text() -> None:
    text = _Elements(page.render(report())).text
    for shown in ("143 ms", "97 ms", "1,234,567.89", "SELECT sum(balance)", "gate 12, drain 61", "612", "operator"):
        assert shown in text
    spans = [(2.5, "2.5 s"), (125, "2 min 5 s"), (7_260, "2 h 1 min"), (200_000, "2 d 7 h")]
    assert [chart.duration(dt.timedelta(seconds=s)) for s, _ in spans] == [text for _, text in spans]


#: All is laid out, whether in sight or not: otherwise only a part would be looked at.
ALL = (
    "document.head.insertAdjacentHTML('beforeend', '<style>section { content-visibility: visible !important }</style>')"
)
#: A phone and a desk; with the hostile page the smallest phone and a tablet, too.
WIDTHS = ((375, 1280), (320, 375, 768, 1280))
#: How far the page is wider than its window, and what in it could run or be fetched.
LAYOUT = """
const root = document.documentElement;
return [root.scrollWidth - window.innerWidth, document.images.length, document.scripts.length,
        performance.getEntriesByType("resource").length];
"""


def test_a_browser_lays_it_out_on_a_phone_and_on_paper(tmp_path: Path) -> None:
    need("browser", programs() is not None, "sh tests/packages.sh")
    endless = replace(hostile(), context="x" * 5_000, problem="\u05d0\u05d1" * 900, description="word " * 500)
    from tests.validations.large import large  # which is made from the report above

    pages = {"good": report(), "hostile": hostile(), "endless": endless, "large": large(200)}
    with browser() as window:
        for name, shown in pages.items():
            file = tmp_path / f"{name}.html"
            file.write_text(page.render(shown), encoding="utf-8")
            for width in WIDTHS[name == "hostile"]:
                window.viewport(width, 800, mobile=width < 500)
                window.open(file)
                window.ask(ALL)
                assert window.ask(LAYOUT) == [0, 0, 0, 0], (name, width)
            window.screenshot(tmp_path / f"{name}.png")
            assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        window.devtools("Emulation.setEmulatedMedia", {"media": "print"})
        window.viewport(700, 1000)
        assert window.ask(LAYOUT)[0] == 0
        # Nothing is hidden behind a scroll bar that paper does not have.
        hidden = "return [...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth).length"
        assert window.ask(hidden) == 0
