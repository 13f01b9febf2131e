"""Compares given keys only, within a time limit: the last check of a switch."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from contexts.catalog import Table
from contexts.errors import RefusedError
from contexts.model import TableName
from validations.diff import rows
from validations.diff.model import Difference, Key, Verdict
from validations.diff.plan import Tables, row_hash, subjects
from validations.diff.sessions import Pair, Query, Rows, TimeOver
from validations.diff.subject import Subject

#: The first batch is small: what one takes says what the next may be.
FIRST_KEYS = 100


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
    pair: Pair, subject: Subject, keys: Iterable[Key], *, deadline: float, columns: bool = True
) -> KeysResult:
    """Compare the rows with these keys, as the two sessions see them.

    Between a drained fence and the opening nothing changes, so plain sessions see both sides at one moment;
    elsewhere pass the sessions of a barrier. Both sessions must be in a transaction.

    :param deadline: on the monotonic clock; what is not compared by then makes the result incomplete, and a
        difference that was found may lack its columns.
    :param columns: whether to find out which columns differ.
    :raises RefusedError: the table has no key on both sides.
    """
    if not subject.key:
        raise RefusedError(
            f"{subject.name} has no key, so single rows cannot be compared",
            unchanged="nothing was compared",
            next_step="compare the whole table",
        )
    rest, wanted = iter(wanted_keys := sorted(set(keys))), len(wanted_keys)
    compared = ours = theirs = 0
    differences: list[Difference] = []
    size = FIRST_KEYS
    while size and (batch := list(islice(rest, size))):
        began = time.monotonic()
        try:
            open_rows, closed_rows = _ask(pair, subject, batch, deadline)
        except TimeOver:
            break
        compared, ours, theirs = compared + len(batch), ours + len(open_rows), theirs + len(closed_rows)
        found = rows.compare(open_rows, closed_rows)
        differences += _named(pair, subject, found, deadline) if columns else found
        now = time.monotonic()
        size = _fitting(len(batch), now - began, deadline - now)
    return KeysResult(subject.name, wanted, compared, ours, theirs, tuple(differences))


def _fitting(keys: int, took_s: float, left_s: float) -> int:
    """How many keys the next batch may have to be done in time, as the last one went; 0 where none fits.

    The servers end a query that is too long, but our own work on a batch nobody ends.
    """
    return min(rows.KEYS_AT_ONCE, 2 * keys, int(keys * left_s / max(took_s, 0.001))) if left_s > 0 else 0


def _ask(pair: Pair, subject: Subject, keys: list[Key], deadline: float) -> tuple[Rows, Rows]:
    source, parameters = subject.keys(keys)

    def query(table: Table) -> Query:
        return subject.statement("keyed_rows", table, keys=source, join=subject.join(table)), parameters

    return pair.ask(subject, query, deadline=deadline)


def _named(pair: Pair, subject: Subject, found: list[Difference], deadline: float) -> list[Difference]:
    try:
        return list(rows.named(pair, subject, found, values=False, deadline=deadline))
    except TimeOver:  # that they differ is known all the same
        return found
