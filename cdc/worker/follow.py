"""Opens streams, and takes one as far as it goes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cdc.apply import FULL, Applier, Coverage, Observer, SourceTypes
from cdc.names import publication_name, slot_name
from cdc.source.base import Source
from cdc.source.embedded import EmbeddedSource
from cdc.state.position import Position, StreamId, end_former
from cdc.worker.signals import Signals
from cdc.worker.stream import Stream
from contexts.databases import Database
from contexts.errors import SchemaMismatch, StreamStopped
from contexts.model import Context, TableName

T = TypeVar("T")


def open_source(
    database: Database, closed: Database, context: Context, stream: StreamId, at: Position, spool: Path
) -> Source:
    """The stream's source at a stored position."""
    if context.source == "kafka":
        from cdc.kafka.link import Link

        return Link.of(context, stream, database, closed).source(at)
    return EmbeddedSource(
        database,
        publication_name(stream.context),
        at,
        spool_dir=spool / slot_name(stream),
        memory_bytes=int(context.options.spool_mb * 1_000_000),
    )


def start_transport(open_: Database, closed: Database, context: Context, stream: StreamId, at: Position) -> None:
    """Start what carries the stream outside of this process, so that the slot keeps no log while the copy runs."""
    if context.source == "kafka":
        from cdc.kafka.link import Link

        Link.of(context, stream, open_, closed).start(at)


def follow(opened: Callable[[], AbstractContextManager[Stream]], work: Callable[[Stream], T]) -> T:
    """Do ``work`` with an open stream.

    Where it stops at a table that does not fit any more, everything before that is applied first: the revision
    that makes the table fit what comes may make it unfit for what came before. So it is where an observer stops it.

    :raises CarveoutError: the stream cannot go on.
    """
    stream: Stream | None = None
    try:
        with opened() as stream:
            return work(stream)
    except StreamStopped as error:
        until = error.applicable_until
        if stream is not None and isinstance(error, SchemaMismatch):
            until = stream.unapplied_until
        if until is not None:
            with opened() as again:
                again.catch_up(until)
        raise


@dataclass(frozen=True)
class Following:
    """The stream of one context in one worker."""

    open_: Database
    closed: Database
    context: Context
    stream: StreamId
    owner: uuid.UUID
    signals: Signals
    #: Folder for transactions too large for memory.
    spool: Path
    #: Makes the observers of one opened stream.
    observers: Callable[[], Sequence[Observer]] = tuple

    #: Tables whose rows may have other types than the closed side; see :class:`Applier`.
    converted: Sequence[TableName] = ()
    #: The former worker's sessions are ended: it has been decided elsewhere that this one replaces it.
    takes_over: bool = False

    def _types(self) -> SourceTypes:
        # Debezium sends no types: its source describes the tables as they are on the closed side.
        is_embedded = self.context.source == "embedded"
        return SourceTypes(self.open_ if is_embedded else self.closed, has_tables=is_embedded)

    @contextmanager
    def opened(self, coverage: Coverage = FULL) -> Iterator[Stream]:
        """The stream from its stored position on."""
        names, options = self.context.table_names, self.context.options
        if self.takes_over:
            with self.closed.connect("take over") as conn:
                end_former(conn, self.context.name)
        with (
            closing(
                Applier(
                    self.closed,
                    self.stream,
                    names,
                    options,
                    owner=self.owner,
                    coverage=coverage,
                    source=self._types(),
                    converted=self.converted,
                    observers=self.observers(),
                    outboxes=self.context.outbox,
                )
            ) as applier,
            closing(
                open_source(self.open_, self.closed, self.context, self.stream, applier.position, self.spool)
            ) as source,
        ):
            source.acknowledge(applier.position.end_lsn)
            yield Stream(
                source,
                applier,
                context=self.context.name,
                open_=self.open_,
                closed=self.closed,
                options=options,
                signals=self.signals,
            )
