"""Which keys are repaired, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import psycopg
from psycopg import sql

from contexts.databases import Connection
from contexts.errors import ConfigError, RefusedError
from contexts.model import TableName
from migrator import keys
from migrator.control.migrations import Migration
from migrator.lifecycle import State, require_state
from migrator.proof import is_from_before_a_switch
from migrator.run import Run
from migrator.sides import writelock
from migrator.sides.writelock import LockState
from validations.diff.model import Extent, Key
from validations.diff.rowhash import is_numeric
from validations.diff.subject import Subject, cast
from validations.state.store import Verifications

UNCHANGED = "nothing was changed"
Chosen = Iterable[tuple[TableName, Key]]


@dataclass(frozen=True)
class Wanted:
    """What the caller asked for; without keys all that the last verification found, in ``table`` or anywhere."""

    table: TableName | None = None
    #: Each as one CSV record: ``7`` or ``EUR,"a,b"``.
    keys: tuple[str, ...] = ()


def require_ours_to_write(run: Run, migration: Migration) -> None:
    """Refuse where the closed side is not written by the stream alone.

    :raises RefusedError: the state, or a table of the closed side that takes other writes.
    """
    require_state(run.name, migration.state, State.STREAMING, State.LOCKSTEP, State.SWITCHED)
    side = migration.closed_side
    states = writelock.states(run.executor, side, run.tables(side))
    if open_ := sorted(str(table.name) for table, state in states.items() if state is not LockState.CLOSED):
        raise RefusedError(
            f"context {run.name!r}: the {side} side is closed, but takes application writes to {', '.join(open_)}",
            unchanged=UNCHANGED,
            next_step=f"carveout doctor {run.name}",
        )


def chosen(run: Run, migration: Migration, wanted: Wanted, subjects: Mapping[TableName, Subject]) -> Chosen:
    """The keys, checked as far as their tables go.

    :raises RefusedError: there is nothing to repair, or a table cannot be repaired.
    :raises ConfigError: a table or a key that was given cannot be.
    """
    found = _given(run, wanted, subjects) if wanted.keys else _found(run, migration, wanted)
    first = next(found, None)
    if first is None:
        raise RefusedError(
            f"context {run.name!r}: the last verification found no key to repair",
            unchanged=UNCHANGED,
            next_step=f"carveout verify {run.name}",
        )
    return _repairable(chain([first], found), subjects)


def _repairable(found: Iterator[tuple[TableName, Key]], subjects: Mapping[TableName, Subject]) -> Chosen:
    for table, key in found:
        subject = subjects.get(table)
        if subject is None or not subject.key:
            raise RefusedError(
                f"{table}: {'it cannot be compared' if subject is None else 'it has no key'}, so single rows"
                " cannot be repaired",
                unchanged=UNCHANGED,
                next_step="name another table with --table",
            )
        yield table, key


def _found(run: Run, migration: Migration, wanted: Wanted) -> Iterator[tuple[TableName, Key]]:
    store = Verifications(run.databases.service, run.name)
    try:
        latest = store.latest(Extent.FULL, Extent.SAMPLE)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        latest = None
    if latest is None:
        raise RefusedError(
            f"context {run.name!r}: nothing was verified yet",
            unchanged=UNCHANGED,
            next_step=f"carveout verify {run.name}",
        )
    if latest.open_side is not migration.open_side or is_from_before_a_switch(run, latest):
        raise RefusedError(
            f"context {run.name!r}: the last verification is from before the last switch; what was the copy then"
            " is what applications write now",
            unchanged=UNCHANGED,
            next_step=f"carveout verify {run.name}",
        )
    for table, difference in store.differences(latest.verification):
        if wanted.table in (None, table):
            yield table, difference.key


def _given(run: Run, wanted: Wanted, subjects: Mapping[TableName, Subject]) -> Iterator[tuple[TableName, Key]]:
    if wanted.table is None or wanted.table not in subjects:
        there = ", ".join(str(name) for name, subject in subjects.items() if subject.key)
        raise ConfigError(f"--key needs --table, one of: {there}", unchanged=UNCHANGED)
    subject = subjects[wanted.table]
    session = run.executor.connection(run.migration().open_side)
    return iter([(wanted.table, _canonical(session, subject, keys.read(text))) for text in wanted.keys])


def _canonical(session: Connection, subject: Subject, given: Sequence[str]) -> Key:
    """The key as the open side writes it: 007 is 7."""
    if len(given) != len(subject.key):
        columns = ", ".join(pair.name for pair in subject.key)
        raise ConfigError(f"{subject.name}: a key has the columns {columns}, not {len(given)}", unchanged=UNCHANGED)
    texts = [
        sql.SQL("concat({})").format(
            sql.SQL("trim_scale({})" if is_numeric(pair) else "{}").format(cast(sql.Literal(text), pair.open))
        )
        for pair, text in zip(subject.key, given, strict=True)
    ]
    try:
        (row,) = session.execute(sql.SQL("SELECT ARRAY[{}]::text[]").format(sql.SQL(", ").join(texts))).fetchall()
    except psycopg.DataError as error:
        raise ConfigError(f"{subject.name}: no key: {error.diag.message_primary}", unchanged=UNCHANGED) from None
    return tuple(row[0])
