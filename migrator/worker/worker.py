"""One context's worker: does what the migration row asks for until it is told to stop."""

from __future__ import annotations

import logging
import random
import tempfile
import threading
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import assert_never

import psycopg

from cdc.state.position import Fenced
from cdc.worker.follow import Following, follow
from cdc.worker.initial import InitialCopy
from cdc.worker.signals import Signals
from cdc.worker.stream import Stream
from contexts import schema
from contexts.databases import Database, Databases
from contexts.errors import CarveoutError, RefusedError, StreamStopped
from contexts.model import Context, TableName
from migrator.control import migrations
from migrator.control.migrations import Migration
from migrator.lifecycle import State, Work
from migrator.lockstep.keeper import LockstepKeeper
from migrator.worker.control import RETRYING, TAKING_OVER, ControlTask
from migrator.worker.copying import CopyProgressTask
from migrator.worker.observers import observers_of
from migrator.worker.seat import InGroup, Seat, seat_of

IDLE_S = 0.2
BACKOFF_S = (0.2, 30.0)
STANDING_BY = "standing by"
_log = logging.getLogger(__name__)


class ContextWorker:
    """Runs one context in the calling thread; ``stop`` ends it after the open batch."""

    def __init__(
        self,
        context: Context,
        databases: Databases,
        stop: threading.Event,
        spool: Path | None = None,
        converted: Sequence[TableName] = (),
    ) -> None:
        """
        :param spool: folder for transactions too large for memory.
        :param converted: tables whose rows from before a change of a column's type are read as the new type.
        """
        self._context = context
        self._databases = databases
        self._stop = stop
        self._spool = spool or Path(tempfile.gettempdir()) / "carveout-spool"
        self._converted = converted
        self._control = ControlTask(context, databases, uuid.uuid4(), stop)

    def run(self) -> None:
        """Work until ``stop`` is set or the migration is over.

        :raises RefusedError: another worker runs this context.
        :raises StreamStopped: the stream cannot go on without losing something.
        """
        with closing(seat_of(self._context, self._databases, self._control.interrupt)) as seat:
            lockstep = LockstepKeeper(self._context, self._databases, self._stop, seat.taken)
            self._control.start(seat)
            lockstep.start()
            try:
                self._work(seat)
            except CarveoutError as error:
                self._control.error = error.message
                if isinstance(error, StreamStopped) and not isinstance(error, Fenced):  # nobody audits any more
                    lockstep.leave(f"the stream stopped: {error.message}")
                raise
            finally:
                self._stop.set()
                self._control.join()
                lockstep.join()

    def _work(self, seat: Seat) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                if self._turn(seat):
                    return
                failures = 0
                self._control.error = None
            except (CarveoutError, psycopg.OperationalError) as error:
                if isinstance(error, CarveoutError) and not (error.transient or seat.outlives(error)):
                    raise
                failures += 1
                delay = min(BACKOFF_S[1], BACKOFF_S[0] * 2**failures) * random.uniform(0.5, 1.0)
                self._control.error = str(error)
                self._control.phase = RETRYING
                _log.warning("context %s: %s; again in %.1f s", self._context.name, error, delay)
                self._stop.wait(delay)

    def _turn(self, seat: Seat) -> bool:
        """Run what the migration row asks for now, where it is this worker's turn; True when the migration is over."""
        migration = self._migration()
        if migration.state.work is Work.END:
            return True
        if not seat.sit(migration):
            self._control.phase = STANDING_BY
            return False
        if self._control.phase == STANDING_BY:
            self._control.phase = TAKING_OVER
        match migration.state.work:
            case Work.COPY:
                self._copy(migration, seat)
            case Work.FOLLOW:
                self._follow(migration, seat)
            case Work.WAIT:
                self._control.phase = "waiting"
                self._stop.wait(IDLE_S)
            case Work.END:
                return True
            case unexpected:
                assert_never(unexpected)
        return False

    def _assign(self, migration: Migration, seat: Seat) -> Signals:
        signals = self._control.assign(migration)
        if self._stop.is_set() or not seat.is_sitting():  # asked to end before there was anything to stop
            signals.stop.set()
        return signals

    def _copy(self, migration: Migration, seat: Seat) -> None:
        signals = self._assign(migration, seat)
        if not self._transition(State.COPYING):
            return
        self._control.phase = "copying"
        progress = CopyProgressTask(signals)
        self._control.details = progress.report
        open_, closed = self._sides(migration)
        finished = InitialCopy(
            open_,
            closed,
            self._context,
            migration.stream,
            owner=uuid.uuid4(),
            signals=signals,
            control=progress,
            spool=self._spool,
            build_indexes=lambda: schema.upgrade(closed, self._context, "head"),
            converted=self._converted,
        ).run()
        if finished:
            self._transition(State.STREAMING)

    def _follow(self, migration: Migration, seat: Seat) -> None:
        signals = self._assign(migration, seat)
        open_, closed = self._sides(migration)
        # The owner is the fence: a new one each time, so nothing that an earlier turn has left open can commit.
        following = Following(
            open_, closed, self._context, migration.stream, uuid.uuid4(), signals, self._spool,
            observers_of(self._context, migration.stream, self._databases, closed), self._converted,
            takes_over=isinstance(seat, InGroup),
        )  # fmt: skip
        try:
            follow(following.opened, self._run_stream)
        except StreamStopped as error:
            # A switch ends a stream, and takes its slot and topic away.
            if isinstance(error, Fenced) or self._migration().stream == migration.stream:
                raise
            _log.info("context %s: stream %s is over: %s", self._context.name, migration.stream, error)

    def _migration(self) -> Migration:
        with self._databases.shared.connect(f"worker/{self._context.name}") as conn:
            return migrations.read(conn, self._context.name)

    def _run_stream(self, stream: Stream) -> None:
        self._control.phase = "streaming"
        stream.run()

    def _sides(self, migration: Migration) -> tuple[Database, Database]:
        return self._databases[migration.open_side], self._databases[migration.closed_side]

    def _transition(self, wanted: State) -> bool:
        """Set the state; False where a driver has changed it meanwhile: the worker looks again what is asked for."""
        with self._databases.shared.connect(f"worker/{self._context.name}") as conn:
            try:
                migrations.transition(conn, self._context.name, wanted)
            except RefusedError as error:
                _log.info("context %s: %s", self._context.name, error)
                return False
        return True
