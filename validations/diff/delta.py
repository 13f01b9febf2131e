"""Compares given keys only, within a time limit: the last check of a switch."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import psycopg

from contexts.catalog import Table
from contexts.errors import RefusedError
from contexts.model import TableName
from validations.diff import rows
from validations.diff.model import Difference, Key, Verdict
from validations.diff.plan import Tables, row_hash, subjects
from validations.diff.sessions import Pair, Query
from validations.diff.subject import Subject


@dataclass(frozen=True, slots=True)
class KeysResult:
    """What a comparison of keys saw. A key that neither side has counts as compared: it was deleted on both."""

    table: TableName
    keys: int
    compared: int
    rows_open: int
    rows_closed: int
    differences: tuple[Difference, ...]

    @property
    def verdict(self) -> Verdict:
        """INCOMPLETE where the time was over before the last key."""
        if self.differences:
            return Verdict.DIFFERENT
        if self.compared < self.keys:
            return Verdict.INCOMPLETE
        return Verdict.EQUAL if self.keys else Verdict.NOTHING_COMPARED


def prepare(pair: Pair, tables_open: Tables, tables_closed: Tables) -> dict[TableName, Subject]:
    """What :func:`diff_keys` needs of each table; do it before the time that counts.

    :raises RefusedError: a table cannot be compared; names it and says why.
    """
    hashing, _ = row_hash(pair.open, pair.closed, secrets.randbits(63))
    names = dict.fromkeys([*tables_open, *tables_closed])
    found, problems = subjects(tables_open, tables_closed, names, hashing)
    if problems:
        listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise RefusedError(f"keys cannot be compared: {listed}", unchanged="nothing was compared")
    return found


def diff_keys(
    pair: Pair, subject: Subject, keys: Iterable[Key], *, budget_s: float, values: bool = False
) -> KeysResult:
    """Compare the rows with these keys, as the two sessions see them.

    Between a drained fence and the opening nothing changes, so plain sessions see both sides at one moment;
    elsewhere pass the sessions of a barrier. Both sessions must be in a transaction.

    :param budget_s: seconds; what is not compared by then makes the result incomplete.
    :raises RefusedError: the table has no key on both sides.
    """
    if not subject.key:
        raise RefusedError(
            f"{subject.name} has no key, so single rows cannot be compared",
            unchanged="nothing was compared",
            next_step="compare the whole table",
        )
    deadline = time.monotonic() + budget_s
    rest, wanted = iter(wanted_keys := sorted(set(keys))), len(wanted_keys)
    compared = ours = theirs = 0
    differences: list[Difference] = []
    while batch := list(islice(rest, rows.KEYS_AT_ONCE)):
        try:
            _limit(pair, deadline)
            counts, found = _compare(pair, subject, batch, values)
        except (TimeoutError, psycopg.errors.QueryCanceled):
            break
        compared, ours, theirs = compared + len(batch), ours + counts[0], theirs + counts[1]
        differences += found
    return KeysResult(subject.name, wanted, compared, ours, theirs, tuple(differences))


def _compare(pair: Pair, subject: Subject, keys: list[Key], values: bool) -> tuple[tuple[int, int], list[Difference]]:
    source, parameters = subject.keys(keys)

    def query(table: Table) -> Query:
        return subject.statement("keyed_rows", table, keys=source, join=subject.join(table)), parameters

    ours, theirs = pair.ask(subject, query)
    found = rows.named(pair, subject, rows.compare(ours, theirs), values=values)
    return (len(ours), len(theirs)), list(found)


def _limit(pair: Pair, deadline: float) -> None:
    left_ms = int((deadline - time.monotonic()) * 1000)
    if left_ms <= 0:
        raise TimeoutError
    for session in (pair.open, pair.closed):
        session.execute("SELECT set_config('statement_timeout', %s, true)", (str(left_ms),))
