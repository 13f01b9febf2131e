"""The initial copy: cycles of one bounded snapshot each, the stream caught up to a barrier between them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from cdc import copy
from cdc.apply import Coverage, Extent
from cdc.copy import CopyControl
from cdc.names import barrier_slot_name, publication_name, slot_name
from cdc.source.slots import ExportedSlot, drop_slot, export_slot
from cdc.state import position
from cdc.state.position import Position, StreamId
from cdc.worker.follow import Following, follow, start_transport
from cdc.worker.signals import Signals
from contexts.databases import Database
from contexts.killpoints import kill_point
from contexts.model import Context, TableName

_log = logging.getLogger(__name__)


class InitialCopy:
    """Copies a context's tables from the open to the closed side; killed at any time, it goes on from its ledger."""

    def __init__(
        self,
        open_: Database,
        closed: Database,
        context: Context,
        stream: StreamId,
        *,
        owner: uuid.UUID,
        signals: Signals,
        control: CopyControl,
        spool: Path,
        build_indexes: Callable[[], object],
        converted: Sequence[TableName] = (),
    ) -> None:
        self._open = open_
        self._closed = closed
        self._context = context
        self._stream = stream
        self._owner = owner
        self._signals = signals
        self._control = control
        self._spool = spool
        self._build_indexes = build_indexes
        self._converted = converted

    def run(self) -> bool:
        """Copy until all is there and the secondary indexes stand; False where it was stopped before.

        :raises CarveoutError: the copy cannot go on; finished parts stay.
        """
        if not copy.recover(self._open, self._closed, self._context, self._control):
            return False
        finished = self._is_finished() if self._has_position() else self._first_cycle()
        while not finished:
            if self._signals.stop.is_set():
                return False
            finished = self._next_cycle()
        self._build_indexes()
        kill_point("copy.indexes_built")
        return True

    def _has_position(self) -> bool:
        with self._closed.connect("copy") as conn:
            return position.read(conn, self._stream) is not None

    def _is_finished(self) -> bool:
        extents = self._coverage().extents.values()
        return bool(extents) and all(extent is Extent.FULL for extent in extents)

    def _coverage(self) -> Coverage:
        with self._closed.connect("copy") as conn:
            covered = copy.coverage(conn, self._context.name)
        return Coverage({table: Extent(extent) for table, extent in covered.items()})

    def _first_cycle(self) -> bool:
        name = slot_name(self._stream)
        with self._open.connect("copy") as conn:
            drop_slot(conn, name)  # left by a run that died before it stored the position: nothing was copied
        timeout, published = self._context.options.barrier_timeout_s, publication_name(self._context.name)
        with export_slot(self._open, name, temporary=False, timeout_s=timeout, publication=published) as slot:
            kill_point("copy.slot_created")
            start = Position(slot.system_identifier, slot.timeline, name, slot.consistent_point)
            with self._open.connect("copy") as open_conn, self._closed.connect("copy") as closed_conn:
                copy.plan(open_conn, closed_conn, self._context)
                position.create(closed_conn, self._stream, start)
            start_transport(self._open, self._closed, self._context, self._stream, start)
            return self._cycle(slot)

    def _next_cycle(self) -> bool:
        """Catch the stream up to a new snapshot, then copy what remains under it."""
        name = barrier_slot_name(self._context.name, 0)
        timeout = self._context.options.barrier_timeout_s
        with export_slot(self._open, name, temporary=True, timeout_s=timeout) as slot:
            return self._catch_up(slot.consistent_point) and self._cycle(slot)

    def _catch_up(self, lsn: int) -> bool:
        following = Following(
            self._open, self._closed, self._context, self._stream, self._owner, self._signals, self._spool,
            converted=self._converted,
        )  # fmt: skip
        return follow(lambda: following.opened(self._coverage()), lambda stream: stream.catch_up(lsn))

    def _cycle(self, slot: ExportedSlot) -> bool:
        result = copy.run_cycle(
            self._open,
            self._closed,
            self._context,
            snapshot=slot.snapshot,
            deadline_s=self._context.options.max_snapshot_age_s,
            control=self._control,
        )
        _log.info("context %s: cycle %d: %d parts, %d rows", self._context.name, result.cycle, result.parts_done,
                  result.rows)  # fmt: skip
        return result.finished
