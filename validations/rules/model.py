"""A violation of a stream rule."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from contexts.model import Side, TableName

#: Keys that are kept of one rule in one transaction; the others are counted.
KEPT_KEYS = 20

#: Column names with values as PostgreSQL writes them.
Key = dict[str, str | None]


@dataclass(slots=True)
class Violation:
    """What one transaction did against one rule."""

    rule: str
    kind: str
    policy: str
    table: TableName
    xid: int
    commit_lsn: int
    committed_at: dt.datetime
    #: Rows, or groups of a balance.
    count: int = 0
    keys: list[Key] = field(default_factory=list)

    def add(self, key: Key) -> None:
        """Count one more."""
        self.count += 1
        if len(self.keys) < KEPT_KEYS:
            self.keys.append(key)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A violation as it is stored."""

    #: The side that holds it: the one that was closed when its transaction passed.
    side: Side
    number: int
    epoch: int
    violation: Violation
    #: None where the stream stopped before it.
    applied_at: dt.datetime | None
    accepted_at: dt.datetime | None
    accepted_by: str | None
    reason: str | None

    @property
    def id(self) -> str:
        """What an operator calls it."""
        return name_of(self.side, self.number)

    @property
    def stops(self) -> bool:
        """Whether the stream waits for somebody to accept it."""
        return self.applied_at is None and self.accepted_at is None


def name_of(side: Side, number: int) -> str:
    """What an operator calls a violation: each side counts its own."""
    return f"{side}-{number}"


def shown(key: Key) -> str:
    """The key in a line."""
    return " ".join(f"{name}={'NULL' if value is None else value}" for name, value in key.items()) or "whole table"
