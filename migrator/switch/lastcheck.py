"""The last check of a switch: the keys changed last, compared while no side takes writes.

Everything that takes time without reading those rows (sessions, catalogs, expressions) is made before the fence.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from psycopg import sql

from contexts.errors import CarveoutError
from contexts.model import Side, TableName
from migrator.run import Run
from validations.diff.delta import diff_keys
from validations.diff.model import Key
from validations.diff.plan import row_hash, subjects
from validations.diff.sessions import Pair
from validations.diff.subject import Subject

_RECENT = sql.SQL(
    "SELECT table_schema, table_name, columns, key FROM carveout.recent_key WHERE context = %s ORDER BY 1, 2"
)


class LastCheckFailed(CarveoutError):
    """The side that would open is not what the side that closes is; the switch goes back."""


@dataclass(frozen=True)
class LastCheck:
    """Compares the keys that the stream stored with the fence marker."""

    run: Run
    to_side: Side
    pair: Pair
    subjects: dict[TableName, Subject]

    def compare(self) -> dict[str, int]:
        """Compare within the budget of the options; returns how many keys there were and were compared.

        :raises LastCheckFailed: names the tables and keys that differ.
        """
        deadline = time.monotonic() + self.run.context.options.recheck_budget_ms / 1000
        wanted = self._recent()
        compared, differing = 0, []
        for name, keys in wanted.items():
            result = diff_keys(self.pair, self.subjects[name], keys, budget_s=max(0.0, deadline - time.monotonic()))
            compared += result.compared
            differing += [
                f"{name} key={','.join(difference.key)} {difference.kind}" for difference in result.differences
            ]
        if differing:
            raise LastCheckFailed(
                f"context {self.run.name!r}: {len(differing)} rows differ at the fence: {'; '.join(differing[:5])}",
                unchanged=f"the {self.to_side.other} side is open again",
                next_step=f"carveout verify {self.run.name}",
            )
        return {"changed_keys": sum(map(len, wanted.values())), "rechecked_keys": compared}

    def _recent(self) -> dict[TableName, list[Key]]:
        found: dict[TableName, list[Key]] = {}
        for schema, table, columns, key in self.run.executor.read(self.to_side, _RECENT, (self.run.name,)):
            subject = self.subjects.get(TableName(schema, table))
            if subject is None or {pair.name for pair in subject.key} != set(columns):
                continue  # a key of the stream that is not the key of the comparison
            values = dict(zip(columns, key, strict=True))
            found.setdefault(subject.name, []).append(tuple(values[pair.name] for pair in subject.key))
        return found


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
