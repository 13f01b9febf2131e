"""The row diff of a verification: how gentle, how much, how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from contexts.catalog import read_tables
from contexts.databases import Databases
from contexts.model import Context, Side
from migrator.barriers import WorkerBarriers
from migrator.control.migrations import Migration
from migrator.load import Load
from validations.barrier import Barriers
from validations.diff.model import DiffOptions, DiffResult, Progress
from validations.diff.run import diff
from validations.state.store import Verifications


@dataclass(frozen=True)
class Manner:
    """How to compare; the default is a proof, gentle on the open side."""

    show_values: bool = False
    #: Compare only about so many percent of the rows: a quick look that is never a proof.
    sample_percent: float | None = None
    #: Stop then; the next verification goes on with what is left.
    time_limit_s: float | None = None
    #: Read at full speed whatever else works on the open side.
    full_speed: bool = False
    #: Rest between queries although nobody else is active.
    always_rest: bool = False
    #: Take a new barrier after this, if the context's own limit is not shorter.
    max_snapshot_age_s: float = float("inf")

    def options(self, context: Context) -> DiffOptions:
        """What it means for the diff."""
        return DiffOptions(
            max_snapshot_age_s=min(self.max_snapshot_age_s, context.options.max_snapshot_age_s),
            show_values=self.show_values,
            sample=None if self.sample_percent is None else self.sample_percent / 100,
        )


PROOF = Manner()


@dataclass(frozen=True)
class Told:
    """What a comparison tells its caller, and is told by it."""

    progress: Callable[[Progress], None] = lambda _: None
    #: Ends it; finished segments are kept.
    stop: threading.Event | None = None
    #: In place of the worker's own.
    barriers: Barriers | None = None


def compare(context: Context, both: Databases, migration: Migration, manner: Manner, told: Told) -> DiffResult:
    """Compare the rows of all tables.

    :raises CarveoutError: as :func:`validations.diff.run.diff`.
    """
    stop = told.stop or threading.Event()
    until = time.monotonic() + (float("inf") if manner.time_limit_s is None else manner.time_limit_s)
    options = manner.options(context)
    # Each worker rests for itself: together they read for the share.
    share = 1.0 if manner.full_speed else context.options.verify_share / options.workers
    tables = {}
    for side in Side:
        with both[side].connect("verify") as conn:
            tables[side] = read_tables(conn, context.table_names)
    with Load(both[migration.open_side], context.options, stop, share=share, always=manner.always_rest) as load:
        return diff(
            told.barriers or WorkerBarriers(context, both),
            tables[migration.open_side],
            tables[migration.closed_side],
            options,
            Verifications(both.service, context.name),
            told.progress,
            lambda: stop.is_set() or time.monotonic() > until,
            lambda: not manner.full_speed and load.limit_reached() is not None,
            pace=load.rest,
            names=context.table_names,
        )
