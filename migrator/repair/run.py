"""Runs a repair: barrier after barrier, batch after batch, and compares what was repaired once more."""

from __future__ import annotations

import datetime as dt
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from contexts.databases import Connection
from contexts.errors import CarveoutError, RefusedError
from contexts.killpoints import kill_point
from contexts.model import Context, Side, TableName
from migrator.barriers import InLockstep, WorkerBarriers
from migrator.control.migrations import Migration, record
from migrator.lifecycle import State
from migrator.lockstep import agreed
from migrator.lockstep.agreed import HoldOver, NotInLockstep
from migrator.repair import choose, log, rows
from migrator.repair.choose import Wanted
from migrator.repair.log import Batch, Counts, Log
from migrator.repair.rows import MovedOn, Place, Standstill
from migrator.run import Run
from validations import state
from validations.barrier import Barrier
from validations.diff.delta import KeysResult, diff_keys
from validations.diff.model import Difference, DiffOptions, Key, Kind
from validations.diff.plan import row_hash, subjects
from validations.diff.run import both_fingerprints
from validations.diff.sessions import Pair, sessions
from validations.diff.subject import Subject
from validations.snapshots import Rewritten
from validations.state.store import Verifications

_log = logging.getLogger(__name__)
#: The worker holds still for at most HOLD_S; no batch is begun after the first WORK_S of it.
HOLD_S, WORK_S = 60.0, 10.0
#: In lockstep applications wait while a batch is written: so many keys at once, and so long at most.
LOCKSTEP_KEYS, LOCKSTEP_HOLD_MS = 100, 3_000
_TRIES = 5  # barriers in a row at which nothing could be done
_PATIENCE_S = 3_600.0
_SETTINGS = DiffOptions()


@dataclass(frozen=True)
class Repaired:
    """What a repair did, or in a dry run would do."""

    context: Context
    migration: Migration
    #: None for a dry run.
    repair: int | None
    counts: Counts
    #: What differed: in a dry run what would be repaired, else what differs still.
    differences: tuple[tuple[TableName, Difference], ...]
    #: It went on with a repair that was killed or failed.
    resumed: bool = False


def repair(
    run: Run, wanted: Wanted, *, batch_keys: int = 1_000, tell: Callable[[Counts], None] = lambda _: None
) -> Repaired:
    """Copy the chosen keys again from the open to the closed side, under live writes; hold the driver's lock.

    Goes on with an unfinished repair where there is one.

    :raises RefusedError: see :mod:`migrator.repair.choose`; or no worker runs.
    :raises ConfigError: a key that was given is none.
    :raises CarveoutError: a server or the worker failed; finished batches stay, the next run goes on.
    """
    migration = run.migration()
    choose.require_ours_to_write(run, migration)
    state.install(run.databases.service)
    with log.opened(run.databases.service) as kept:
        job, resumed = _job(run, migration, wanted, kept)
        job.work(batch_keys, tell)
        differences = job.compare_again()
        counts = kept.counts(job.repair)
        record(run.control, run.name, "repair", {"repair": job.repair, "keys": counts.keys, "repaired": counts.repaired,
                                                 "still_different": len(differences)})  # fmt: skip
    return Repaired(run.context, migration, job.repair, counts, differences, resumed)


def finish(run: Run, *, batch_keys: int = 1_000) -> Repaired | None:
    """Go on with an unfinished repair; None where there is none. Raises as :func:`repair`."""
    state.install(run.databases.service)
    with log.opened(run.databases.service) as kept:
        unfinished = kept.unfinished(run.migration())
    return None if unfinished is None else repair(run, Wanted(), batch_keys=batch_keys)


def preview(run: Run, wanted: Wanted) -> Repaired:
    """What :func:`repair` would do now, found out at a barrier; changes nothing.

    :raises CarveoutError: as for :func:`repair`.
    """
    migration = run.migration()
    choose.require_ours_to_write(run, migration)
    found = _subjects(run, migration)
    keys: dict[TableName, list[Key]] = {}
    for table, key in choose.chosen(run, migration, wanted, found):
        keys.setdefault(table, []).append(key)
    results, lsn = _compare(run, found, keys)
    counted = Counter(difference.kind for result in results for difference in result.differences)
    missing, surplus, different = (counted[kind] for kind in Kind)
    counts = Counts(sum(map(len, keys.values())), 0, missing, surplus, different, lsn, lsn)
    return Repaired(run.context, migration, None, counts, _differences(results))


def _job(run: Run, migration: Migration, wanted: Wanted, kept: Log) -> tuple[_Job, bool]:
    found = _subjects(run, migration)
    unfinished = kept.unfinished(migration)
    if unfinished is not None and wanted != Wanted():
        left = kept.counts(unfinished)
        raise RefusedError(
            f"context {run.name!r}: repair {unfinished} is not finished ({left.done} of {left.keys} keys)",
            unchanged="nothing was changed",
            next_step=f"carveout repair {run.name}",
        )
    number = unfinished
    if number is None:
        number = kept.begin(migration, dict.fromkeys(choose.chosen(run, migration, wanted, found)))
        kill_point("repair.chosen")
    return _Job(run, migration, kept, number, found), unfinished is not None


@dataclass(frozen=True)
class _Job:
    """One repair at work."""

    run: Run
    migration: Migration
    log: Log
    repair: int
    subjects: Mapping[TableName, Subject]

    def work(self, batch_keys: int, tell: Callable[[Counts], None]) -> None:
        """Do all batches, a few at each barrier."""
        tries = 0
        while (before := self.log.counts(self.repair)).done < before.keys:
            try:
                if self.run.migration().state is State.LOCKSTEP:
                    self._in_lockstep(batch_keys, tell)
                else:
                    with self._held() as barrier:
                        self._at_barrier(barrier, batch_keys, tell)
            except (MovedOn, Rewritten, InLockstep, NotInLockstep, HoldOver) as error:
                _log.info("%s", error)
                tries = tries + 1 if self.log.counts(self.repair).done == before.done else 0
                if tries >= _TRIES:
                    raise

    @contextmanager
    def _held(self) -> Iterator[Barrier]:
        with WorkerBarriers(self.run.context, self.run.databases, hold_s=HOLD_S)() as barrier:
            yield barrier

    def _at_barrier(self, barrier: Barrier, batch_keys: int, tell: Callable[[Counts], None]) -> None:
        over = time.monotonic() + WORK_S
        with sessions(barrier, _SETTINGS) as pair, rows.writer(barrier.closed.database) as closed:
            place = Place.at_barrier(pair, self.migration.stream)
            while time.monotonic() < over and (batch := self.log.next(self.repair, batch_keys)):
                self._one(pair, closed, place, batch, barrier.lsn)
                tell(self.log.counts(self.repair))

    def _in_lockstep(self, batch_keys: int, tell: Callable[[Counts], None]) -> None:
        """One small batch; writers wait for it, so they have at least as long before the next one."""
        both, began = self.run.databases, time.monotonic()
        with (
            rows.writer(both.service) as closed,
            agreed.held(self.run.context, both, closed, hold_ms=LOCKSTEP_HOLD_MS) as barrier,
            sessions(barrier, _SETTINGS) as pair,
        ):
            if batch := self.log.next(self.repair, min(batch_keys, LOCKSTEP_KEYS)):
                self._one(pair, closed, rows.Held(self.migration.stream), batch, barrier.lsn)
        tell(self.log.counts(self.repair))
        time.sleep(time.monotonic() - began)

    def _one(self, pair: Pair, closed: Connection, place: Standstill, batch: Batch, lsn: int) -> None:
        subject = self.subjects.get(batch.table)
        if subject is None:
            raise RefusedError(
                f"{batch.table} cannot be compared any more",
                unchanged="what is done stays done",
                next_step=f"carveout schema check {self.run.name}",
            )
        try:
            with pair.reading():
                found = diff_keys(pair, subject, batch.keys, deadline=time.monotonic() + WORK_S, columns=False)
                if found.compared < found.keys:
                    raise _too_slow(batch)
                self.log.begun(self.repair, batch, {d.key: d.kind for d in found.differences}, lsn)
                kill_point("repair.begun")
                if found.differences:
                    rows.replace(pair, closed, place, subject, [d.key for d in found.differences])
                    kill_point("repair.committed")
        except psycopg.Error as error:
            raise _named(error, batch.table) from error
        self.log.done(self.repair, batch)
        kill_point("repair.batch_done")

    def compare_again(self) -> tuple[tuple[TableName, Difference], ...]:
        """Compare all keys at a new barrier, store the result, and end the repair."""
        keys = {table: self.log.keys(self.repair, table) for table in self.log.tables(self.repair)}
        at = dt.datetime.now(dt.UTC)
        results, lsn = _compare(self.run, self.subjects, keys)
        tables = [{table.name: table for table in self.run.tables(side)} for side in _sides(self.migration)]
        store = Verifications(self.run.databases.service, self.run.name)
        number = store.save_keys(self.migration.open_side, both_fingerprints(*tables), lsn, at, results)
        self.log.finish(self.repair, number)
        return _differences(results)


def _compare(
    run: Run, found: Mapping[TableName, Subject], keys: Mapping[TableName, list[Key]]
) -> tuple[list[KeysResult], int]:
    for _ in range(_TRIES - 1):
        try:
            return _compare_once(run, found, keys)
        except Rewritten as error:
            _log.info("%s", error)
    return _compare_once(run, found, keys)


def _compare_once(
    run: Run, found: Mapping[TableName, Subject], keys: Mapping[TableName, list[Key]]
) -> tuple[list[KeysResult], int]:
    with (
        WorkerBarriers(run.context, run.databases)() as barrier,
        sessions(barrier, _SETTINGS) as pair,
        pair.reading(),
    ):
        deadline = time.monotonic() + _PATIENCE_S
        results = [diff_keys(pair, found[table], some, deadline=deadline) for table, some in keys.items()]
        pair.require_as_they_were()
        return results, barrier.lsn


def _subjects(run: Run, migration: Migration) -> dict[TableName, Subject]:
    ours, theirs = ({table.name: table for table in run.tables(side)} for side in _sides(migration))
    on_open, on_closed = (run.executor.connection(side) for side in _sides(migration))
    hashing, _ = row_hash(on_open, on_closed, secrets.randbits(63))
    found, _ = subjects(ours, theirs, ours, hashing)
    return found


def _sides(migration: Migration) -> tuple[Side, Side]:
    return migration.open_side, migration.closed_side


def _too_slow(batch: Batch) -> CarveoutError:
    return CarveoutError(
        f"{batch.table}: {len(batch.keys)} keys took longer than {WORK_S:g} s to compare",
        unchanged="the batch was not begun, those before stay",
        next_step="run it again with fewer keys in a batch (--batch-keys)",
    )


def _differences(results: list[KeysResult]) -> tuple[tuple[TableName, Difference], ...]:
    return tuple((result.table, difference) for result in results for difference in result.differences)


def _named(error: psycopg.Error, table: TableName) -> CarveoutError:
    """Without the server's own words, which quote values of rows."""
    constraint = error.diag.constraint_name
    if isinstance(error, psycopg.errors.UniqueViolation):
        return CarveoutError(
            f"{table}: {constraint}: another row of the closed side has a value that a repaired row needs",
            unchanged="the batch was rolled back, those before stay",
            next_step="run it again with more keys in a batch (--batch-keys): swapped values need one transaction",
        )
    return CarveoutError(
        f"{table}: a server refused: {type(error).__name__} ({error.sqlstate})",
        unchanged="the batch was rolled back, those before stay",
        next_step="run the repair again: it goes on from there",
    )
