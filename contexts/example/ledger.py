"""The load's own ledger, outside all databases: what was tried, and what the server said about it.

An append-only file of JSON lines. A transaction's line is written before it begins and its outcome after the server
has acknowledged the commit, so a process that is killed leaves transactions whose outcome is unknown, and no others.
"""

from __future__ import annotations

import enum
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from contexts.errors import CarveoutError
from contexts.example.transactions import Transaction, from_json, to_json


class Outcome(enum.StrEnum):
    """What is known about a transaction."""

    #: The server acknowledged the commit.
    ACKNOWLEDGED = "acknowledged"
    #: It was rolled back, or the server refused it.
    REJECTED = "rejected"
    #: The answer to the commit never came, or the load died.
    UNKNOWN = "unknown"


class LedgerBroken(CarveoutError):
    """The load's ledger does not make sense, so it can judge nothing."""


@dataclass(slots=True)
class Entry:
    """One transaction of the load; times are seconds since the epoch, by the load's own clock."""

    transaction: Transaction
    began: float
    outcome: Outcome = Outcome.UNKNOWN
    ended: float | None = None
    #: SQLSTATE or error class of a transaction that was not acknowledged.
    reason: str = ""


@dataclass(slots=True)
class Account:
    """The whole ledger as read from its file: entries in the order in which they began."""

    entries: list[Entry] = field(default_factory=list)
    #: Fingerprints of the rows that were there before the load, by context and name.
    baseline: dict[str, dict[str, Any]] = field(default_factory=dict)


class Ledger:
    """Writes the file; threads and processes may share it, since each line is one append."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def baseline(self, context: str, fingerprint: Mapping[str, Any]) -> None:
        """Note what was in a context's tables before the load began."""
        self._append({"is": "baseline", "context": context, "fingerprint": fingerprint})

    def attempt(self, transaction: Transaction) -> None:
        """Note a transaction before it begins."""
        self._append({"is": "attempt", "at": time.time(), **to_json(transaction)})

    def outcome(self, transaction: Transaction, outcome: Outcome, reason: str = "") -> None:
        """Note what became of a transaction."""
        self._append({"is": str(outcome), "at": time.time(), "id": transaction.id, "reason": reason})

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _append(self, line: Mapping[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=True).encode() + b"\n"
        if os.write(self._file, data) != len(data):
            raise LedgerBroken(f"{self.path}: a line was cut short: the disk is full?")


def read(path: Path) -> Account:
    """Read a ledger, of a load that has ended in any way.

    :raises LedgerBroken: a line is no ledger's, or an outcome came twice or for nothing.
    """
    account, by_id = Account(), dict[str, Entry]()
    for number, line in _lines(path):
        try:
            _enter(account, by_id, json.loads(line))
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerBroken(f"{path}:{number}: {error!r}") from error
    return account


def longest_pause_s(account: Account, context: str) -> float:
    """The longest time in which no transaction of the context was acknowledged, within the load's run."""
    times = sorted(
        entry.ended
        for entry in account.entries
        if entry.outcome is Outcome.ACKNOWLEDGED and entry.ended and entry.transaction.context == context
    )
    return max((after - before for before, after in pairwise(times)), default=0.0)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if line.endswith(b"\n"):  # a last line cut short by a crash was never acted on
            yield number, line


def _enter(account: Account, by_id: dict[str, Entry], line: dict[str, Any]) -> None:
    kind = line.pop("is")
    if kind == "baseline":
        account.baseline[line["context"]] = line["fingerprint"]
        return
    at = line.pop("at")
    if kind == "attempt":
        entry = Entry(from_json(line), at)
        if by_id.setdefault(entry.transaction.id, entry) is not entry:
            raise ValueError(f"transaction {entry.transaction.id} began twice")
        account.entries.append(entry)
        return
    entry = by_id[line["id"]]
    if entry.ended is not None:
        raise ValueError(f"transaction {line['id']} ended twice")
    entry.outcome, entry.ended, entry.reason = Outcome(kind), at, line["reason"]
