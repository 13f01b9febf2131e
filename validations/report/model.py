"""What a report holds: plain values, gathered by somebody else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contexts.model import Side, TableName
from contexts.rules import Rule
from validations.diff.model import Difference, DiffResult
from validations.invariants.model import Checked
from validations.parity.finding import Parity
from validations.rules.model import Recorded
from validations.suites.model import Checked as Suites


@dataclass(frozen=True, slots=True)
class Switch:
    """One attempt to exchange the sides."""

    from_side: Side
    to_side: Side
    outcome: str
    started_at: dt.datetime
    ended_at: dt.datetime | None
    #: How long writes waited, in milliseconds; None where the switch did not get there or was finished by ``resume``.
    blocked_ms: float | None = None
    #: The same in parts.
    parts: Mapping[str, float] = field(default_factory=dict)
    #: Keys that the stream changed last, and how many of them were compared while no side took writes.
    changed_keys: int | None = None
    rechecked_keys: int | None = None
    #: Objects with ``table``, ``keys`` and ``why``, see ``docs/json.md``.
    not_rechecked: Sequence[Mapping[str, Any]] | None = None
    #: Why it went back.
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the event log."""

    at: dt.datetime
    #: The database role that did it.
    actor: str
    kind: str
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Sample:
    """What the worker measured up to a moment."""

    at: dt.datetime
    #: ``copying`` or ``streaming``.
    phase: str
    #: The worst since the sample before, in seconds; None while nothing streams.
    lag_s: float | None
    lag_bytes: int | None
    #: The mean since the sample before.
    rows_per_s: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """A context's migration and its newest proof."""

    context: str
    description: str
    made_at: dt.datetime
    state: str
    open_side: Side
    epoch: int
    #: The newest verification; None where there was none.
    verification: DiffResult | None
    #: Why it is not green; None where it is.
    problem: str | None
    #: Why no switch is allowed now; None where one is, or where none is to come.
    no_switch_because: str | None
    invariants: Checked | None = None
    parity: Parity | None = None
    #: The first differing keys.
    differences: tuple[tuple[TableName, Difference], ...] = ()
    switches: tuple[Switch, ...] = ()
    #: The oldest one first.
    events: tuple[Event, ...] = ()
    #: The context's stream rules, and what broke one, the oldest first.
    rules: tuple[Rule, ...] = ()
    violations: tuple[Recorded, ...] = ()
    #: How applications write both sides, as ``status`` shows it; None where nobody asked for it.
    lockstep: Mapping[str, Any] | None = None
    #: What became of the suites with that verification; None where none was run.
    suites: Suites | None = None
    #: What each table takes on the open side now, in bytes with TOAST and without indexes.
    sizes: Mapping[TableName, int] = field(default_factory=dict)
    #: The oldest one first; older ones are further apart.
    samples: tuple[Sample, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the newest verification is green."""
        return self.verification is not None and self.problem is None
