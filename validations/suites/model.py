"""A suite as its file declares it, and what became of it at a barrier."""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contexts.model import Side, TableName


class Severity(enum.StrEnum):
    """What an expectation that is not met means for the proof; the words are great-expectations' own."""

    CRITICAL = "critical"
    #: Shown, and the proof stands.
    WARNING = "warning"
    INFO = "info"

    @property
    def spoils(self) -> bool:
        """Whether an expectation that is not met makes the proof fail."""
        return self is Severity.CRITICAL


class State(enum.StrEnum):
    """What became of an expectation. Only MET is green."""

    MET = "met"
    NOT_MET = "not_met"
    #: It could not be answered.
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Expectation:
    """One entry of a suite."""

    type: str
    arguments: Mapping[str, Any]
    severity: Severity = Severity.CRITICAL
    #: Its author's own words; may be empty.
    description: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """One file of ``contexts/<name>/suites/``."""

    #: The file's name without ``.json``.
    name: str
    table: TableName
    #: The whole file.
    text: str
    expectations: tuple[Expectation, ...]
    sides: tuple[Side, ...] = tuple(Side)
    #: Whether a table without rows is no error.
    may_be_empty: bool = False

    @property
    def digest(self) -> str:
        """Changes with any change of the file: a result counts only for the text that was run."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was answered for one expectation."""

    #: None where both sides were compared with each other.
    side: Side | None
    #: Why there is no answer; empty where there is one.
    error: str = ""
    met: bool = False
    #: How many rows were looked at, and how many of them are not as expected; None where nothing is counted by row.
    rows: int | None = None
    unexpected: int | None = None
    #: A number or a sum that was seen; no value of a row.
    observed: str = ""
    #: Some of the unexpected values, only where they were asked for.
    values: tuple[str, ...] | None = None

    @property
    def state(self) -> State:
        """ERROR where there is no answer, whatever else is known."""
        if self.error:
            return State.ERROR
        return State.MET if self.met else State.NOT_MET


@dataclass(frozen=True, slots=True)
class Result:
    """One expectation at the barrier."""

    expectation: Expectation
    #: The shared side first.
    outcomes: tuple[Outcome, ...]

    @property
    def state(self) -> State:
        """The worst of its outcomes; ERROR where there is none."""
        states = {outcome.state for outcome in self.outcomes}
        return next((state for state in (State.ERROR, State.NOT_MET) if state in states or not states), State.MET)

    @property
    def spoils(self) -> bool:
        """Whether the proof fails by it: an error always, one that is not met by its severity."""
        return self.state is State.ERROR or (self.state is State.NOT_MET and self.expectation.severity.spoils)


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """One suite at the barrier."""

    suite: Suite
    results: tuple[Result, ...]
    milliseconds: float = 0.0

    @property
    def met(self) -> int:
        """How many expectations are met."""
        return sum(result.state is State.MET for result in self.results)

    @property
    def spoils(self) -> bool:
        """Whether the proof fails by it; a suite of which nothing was run fails it, too."""
        return not self.results or any(result.spoils for result in self.results)


@dataclass(frozen=True, slots=True)
class Checked:
    """Suites of a context at one barrier."""

    #: None where one side alone was asked, outside any stream.
    lsn: int | None
    #: When the barrier was reached.
    at: dt.datetime
    suites: tuple[SuiteResult, ...]

    @property
    def passed(self) -> bool:
        """Whether no suite spoils the proof."""
        return not any(suite.spoils for suite in self.suites)

    @property
    def spoilt_by(self) -> list[tuple[Suite, Result]]:
        """The expectations that spoil the proof."""
        return [(one.suite, result) for one in self.suites for result in one.results if result.spoils]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a statement may run and what is kept of its rows."""

    #: Seconds for each statement.
    statement_s: float = 120.0
    #: Seconds for all of them: the barrier holds back the cleaning of dead rows.
    all_s: float = 600.0
    #: Keep this many unexpected values of each expectation; 0 keeps none and does not even read them.
    keep_values: int = 0
