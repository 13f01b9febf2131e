"""An invariant as its file declares it, and what became of it at a barrier."""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
from dataclasses import dataclass
from decimal import Decimal

from contexts.model import Side


class Kind(enum.StrEnum):
    """What the statement answers."""

    #: Each row is a violation.
    ROWS = "rows"
    #: One number, the same on both sides.
    NUMBER = "number"


class Severity(enum.StrEnum):
    """What a violation means for the proof."""

    CRITICAL = "critical"
    ERROR = "error"
    #: Shown, and the proof stands.
    WARNING = "warning"

    @property
    def spoils(self) -> bool:
        """Whether a violation makes the proof fail."""
        return self is not Severity.WARNING


class State(enum.StrEnum):
    """What became of an invariant. Only HOLDS is green."""

    HOLDS = "holds"
    VIOLATED = "violated"
    #: It could not be answered.
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Invariant:
    """One file of ``contexts/<name>/invariants/``."""

    #: The file's name without ``.sql``.
    name: str
    proves: str
    #: The whole file.
    sql: str
    severity: Severity = Severity.ERROR
    sides: tuple[Side, ...] = tuple(Side)
    kind: Kind = Kind.ROWS
    #: Columns that name a violation; empty means the first one.
    key: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Changes with any change of the file: a result counts only for the text that was run."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


#: Column names with values, as the server writes them.
Cells = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Violation:
    """A row that should not be there."""

    key: Cells
    #: All columns, only where they were asked for.
    values: Cells | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one side answered."""

    side: Side
    #: Why there is no answer; empty where there is one.
    error: str = ""
    #: All violating rows, more than are kept in ``violations``.
    rows: int = 0
    violations: tuple[Violation, ...] = ()
    number: Decimal | None = None
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """One invariant at the barrier."""

    invariant: Invariant
    #: The shared side first.
    outcomes: tuple[Outcome, ...]

    @property
    def state(self) -> State:
        """ERROR where a side could not answer, even if the other one is violated."""
        if any(outcome.error for outcome in self.outcomes) or {o.side for o in self.outcomes} != {
            *self.invariant.sides
        }:
            return State.ERROR
        numbers = {outcome.number for outcome in self.outcomes}
        if any(outcome.rows for outcome in self.outcomes) or len(numbers) > 1:
            return State.VIOLATED
        return State.HOLDS

    @property
    def spoils(self) -> bool:
        """Whether the proof fails by it: an error always, a violation by its severity."""
        return self.state is State.ERROR or (self.state is State.VIOLATED and self.invariant.severity.spoils)


@dataclass(frozen=True, slots=True)
class Checked:
    """All invariants of a context at one barrier; none at all is no failure."""

    lsn: int
    #: When the barrier was reached.
    at: dt.datetime
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether no result spoils the proof."""
        return not any(result.spoils for result in self.results)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a statement may run and what is kept of its rows."""

    #: Seconds for each statement.
    statement_s: float = 120.0
    #: Seconds for all of them: the barrier holds back the cleaning of dead rows.
    all_s: float = 600.0
    keep_rows: int = 20
    #: Keep all columns of violations, not only the key.
    show_values: bool = False
