"""The last check of a switch: the keys changed last, compared while no side takes writes.

Everything that takes time without reading those rows (sessions, catalogs, expressions) is made before the fence. The
budget is one for all queries of the check: each may take what is left of it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from contexts.errors import CarveoutError
from contexts.model import Side, TableName
from migrator.run import Run
from validations.diff.delta import diff_keys
from validations.diff.model import Key
from validations.diff.plan import row_hash, subjects
from validations.diff.sessions import Pair, TimeOver, limit
from validations.diff.subject import Subject

_RECENT = "SELECT table_schema, table_name, columns, key FROM carveout.recent_key WHERE context = %s ORDER BY 1, 2"
TIME, NO_KEY, OTHER_KEY = "the time was over", "no key", "not comparable by the key of the stream"


class LastCheckFailed(CarveoutError):
    """The side that would open is not what the side that closes is; the switch goes back."""


@dataclass
class Rechecked:
    """What the last check saw, and what not."""

    changed: int = 0
    compared: int = 0
    #: By table: how many keys (None: unknown) were not compared, and why.
    missed: dict[TableName, tuple[int | None, str]] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """In the words of ``docs/json.md``."""
        missed = [{"table": str(name), "keys": keys, "why": why} for name, (keys, why) in self.missed.items()]
        return {"changed_keys": self.changed, "rechecked_keys": self.compared, "not_rechecked": missed}


@dataclass(frozen=True)
class LastCheck:
    """Compares the keys that the stream stored with the fence marker."""

    run: Run
    to_side: Side
    pair: Pair
    subjects: dict[TableName, Subject]

    def compare(self, budget_s: float) -> dict[str, Any]:
        """Compare within the budget; returns how many keys there were and what was not compared.

        :raises LastCheckFailed: names the tables and keys that differ.
        """
        seen, differing = self._compared(time.monotonic() + budget_s)
        if differing:
            raise LastCheckFailed(
                f"context {self.run.name!r}: {len(differing)} rows differ at the fence: {'; '.join(differing[:5])}",
                unchanged=f"the {self.to_side.other} side is open again",
                next_step=f"carveout verify {self.run.name}",
            )
        return seen.facts()

    def _compared(self, deadline: float) -> tuple[Rechecked, list[str]]:
        seen, differing = Rechecked(missed=self._keyless()), list[str]()
        try:
            wanted = self._recent(deadline, seen)
        except TimeOver:
            seen.missed |= dict.fromkeys(sorted(self.subjects.keys() - seen.missed.keys()), (None, TIME))
            return seen, differing
        # Small tables first: so the time is over in as few tables as can be.
        for name, keys in sorted(wanted.items(), key=lambda item: len(item[1])):
            result = diff_keys(self.pair, self.subjects[name], keys, deadline=deadline, columns=False)
            seen.compared += result.compared
            if missed := result.keys - result.compared:
                seen.missed[name] = (missed, TIME)
            differing += [f"{name} key={','.join(found.key)} {found.kind}" for found in result.differences]
        return seen, differing

    def _keyless(self) -> dict[TableName, tuple[int | None, str]]:
        leaves = [subject for subject in self.subjects.values() if subject.open.kind != "p"]
        return {subject.name: (None, NO_KEY) for subject in leaves if not subject.key}

    def _recent(self, deadline: float, seen: Rechecked) -> dict[TableName, set[Key]]:
        """The stored keys, as those of the comparison; others are noted as missed."""
        found: dict[TableName, set[Key]] = {}
        for schema, table, columns, key in self._stored(deadline):
            if time.monotonic() > deadline:  # on a busy machine our own work takes its time, too
                raise TimeOver
            seen.changed += 1
            name, values = TableName(schema, table), dict(zip(columns, key, strict=True))
            subject = self.subjects.get(name)
            if subject is None or {pair.name for pair in subject.key} != values.keys():
                before, _ = seen.missed.get(name, (0, ""))
                seen.missed[name] = ((before or 0) + 1, OTHER_KEY)
            else:
                found.setdefault(name, set()).add(tuple(values[pair.name] for pair in subject.key))
        return found

    def _stored(self, deadline: float) -> list[tuple[str, str, list[str], list[str]]]:
        try:
            limit(self.pair.closed, deadline)
            return self.pair.closed.execute(_RECENT, (self.run.name,)).fetchall()
        except psycopg.errors.QueryCanceled as error:
            raise TimeOver from error


@contextmanager
def prepared(run: Run, from_side: Side, to_side: Side) -> Iterator[LastCheck]:
    """A last check with its own two sessions, ready to compare at once."""
    with ExitStack() as stack:
        ours = stack.enter_context(run.databases[from_side].connect("last-check", autocommit=False))
        theirs = stack.enter_context(run.databases[to_side].connect("last-check", autocommit=False))
        hashing, _ = row_hash(ours, theirs, secrets.randbits(63))
        tables = [{table.name: table for table in run.tables(side)} for side in (from_side, to_side)]
        found, _ = subjects(tables[0], tables[1], tables[0].keys() & tables[1].keys(), hashing)
        for session in (ours, theirs):
            session.commit()
        yield LastCheck(run, to_side, stack.enter_context(Pair(ours, theirs)), found)
