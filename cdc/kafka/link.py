"""A context's stream through Kafka, from its connector to the source that the worker polls.

Who makes what: ``prepare`` the topic, the copy the slot (with the snapshot that it copies from), and then the
connector is started here, from that slot. So the open side's log is kept by Kafka while the copy still runs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from cdc.kafka import connect, place, settings, topic
from cdc.kafka.anchor import Anchor
from cdc.kafka.cluster import Cluster
from cdc.kafka.parted import PartedSource
from cdc.kafka.settings import Encoding
from cdc.kafka.source import KafkaSource, descriptions
from cdc.lsn import format_lsn
from cdc.source.failures import slot_lost
from cdc.source.slots import PLUGIN, slot_status
from cdc.state import decisions, placeholder
from cdc.state.position import Position, StreamId
from contexts.catalog import Table, read_tables
from contexts.databases import Database
from contexts.errors import CarveoutError, RefusedError, StreamStopped
from contexts.model import Context, TableName

#: How often the connector is looked at while nothing arrives.
WATCH_S = 5.0
_log = logging.getLogger(__name__)
_BROKEN = "docs/howto/kafka.md says what leads on: with the shared side open, abort, prepare, and a new copy"


class ConnectorDown(CarveoutError):
    """The connector's task has failed, and a restart did not help; the stream waits for it."""

    transient = True


@dataclass(frozen=True)
class Link:
    """One stream of a context through its cluster."""

    cluster: Cluster
    stream: StreamId
    open_: Database
    closed: Database
    tables: tuple[TableName, ...]

    @classmethod
    def of(cls, context: Context, stream: StreamId, open_: Database, closed: Database) -> Link:
        """The link of a stream between two sides.

        :raises ConfigError: see :meth:`Cluster.of`.
        """
        return cls(Cluster.of(context), stream, open_, closed, context.table_names)

    @property
    def names(self) -> connect.Names:
        """What belongs to the stream."""
        return self.cluster.names(self.stream)

    def wanted(self) -> dict[str, str]:
        """The connector's configuration; makes the stream's placeholder where there is none.

        :raises RefusedError: settings of the context would lose something.
        """
        with self.closed.connect("connector") as conn:
            config = self.cluster.config(self.stream, self.open_, placeholder.of(conn, self.stream))
        _require_lossless(self.names.connector, config)
        return config

    def start(self, at: Position) -> Encoding:
        """Make sure that the stream's own connector runs and loses nothing, and say how it writes values.

        A connector that is there is left as it is, but resumed where it is stopped. One that is gone is made only
        where nothing was ever read from it; later that is an operator's decision, since it may have lost its place.

        :raises RefusedError: somebody changed its settings so that something would be lost, or deleted it.
        :raises ConnectorDown: it does not run.
        :raises SlotLost: server or slot are not those of the position.
        """
        self._require_same_server(at)
        api, names = self.cluster.connect, self.names
        found, wanted = connect.current(api, names), self.wanted()
        if found is None and self._was_read(at):
            found = self._appearing()
        if found is None:
            self._require_slot_behind(at)
            _log.info("connector %s: starting it from slot %s", names.connector, names.slot)
            connect.apply(api, names, wanted)
            return Encoding.of(wanted)
        require_ours(found, wanted)
        self._let_run()
        self._require_running()
        return Encoding.of(found)

    def placeholder(self) -> str | None:
        """The stream's placeholder, None where there is none yet; makes nothing."""
        with self.closed.connect("connector") as conn:
            return placeholder.read(conn, self.stream)

    def apply(self, at: Position) -> None:
        """Set the connector to its configuration; one that is gone goes on from its stored place.

        :raises RefusedError: that place is lost, and the topic holds events.
        """
        self._require_same_server(at)
        api, names, cluster = self.cluster.connect, self.names, self.cluster
        if connect.current(api, names) or topic.is_empty(cluster.bootstrap, names.topic, options=cluster.options):
            connect.apply(api, names, self.wanted())
            self._require_running()
        else:
            place.apply_kept(api, names, self.wanted())

    def source(self, at: Position) -> KafkaSource:
        """The stream's source from a position on.

        :raises CarveoutError: see :meth:`start` and :class:`KafkaSource`.
        """
        encoding = self.start(at)
        return self._source(
            at, encoding, watch=rarely(self._require_running), anchor=Anchor(self.open_, self.names.slot)
        )

    def reader(self, at: Position) -> KafkaSource:
        """A second source beside the worker's, to look at records: it starts and changes nothing."""
        if self.cluster.partitions > 1:
            raise RefusedError(
                f"context {self.stream.context!r}: the rows come in {self.cluster.partitions} partitions, where no"
                " record can be looked at or decided about",
                unchanged="nothing was read or decided",
                next_step=_BROKEN,
            )
        config = connect.current(self.cluster.connect, self.names)
        return self._source(at, Encoding.of(config if config is not None else self.wanted()))

    def send_again(self, anchor: Anchor, end_lsn: int) -> None:
        """Have the connector send again everything that ended after ``end_lsn``.

        :raises StreamStopped: the server has been told that a later transaction is safe, and need not have it any
            more; and there is no copy of the slot that has it.
        :raises SlotLost: the server went away while the slot was made anew.
        """
        names = self.names
        if not (self._has(end_lsn) or anchor.reaches(end_lsn)):
            raise self._too_late()

        def back() -> None:
            if not (self._has(end_lsn) or anchor.restore(end_lsn)):
                raise self._too_late()

        _log.warning("connector %s: set back to the end of the last whole transaction", names.connector)
        place.rewind(self.cluster.connect, names, end_lsn, meanwhile=back)

    def _has(self, end_lsn: int) -> bool:
        """Whether the slot has everything that ended after ``end_lsn``."""
        with self.open_.connect("stream") as conn:
            confirmed = slot_status(conn, self.names.slot).confirmed_flush_lsn
        return confirmed is not None and confirmed <= end_lsn

    def _too_late(self) -> StreamStopped:
        names = self.names
        return StreamStopped(
            f"connector {names.connector} was restarted inside a transaction and may have left out rows of it,"
            f" and slot {names.slot} does not have that transaction any more",
            unchanged="nothing of the transaction was applied",
            next_step=_BROKEN,
        )

    def _source(
        self, at: Position, encoding: Encoding, watch: Callable[[], None] = lambda: None,
        anchor: Anchor | None = None,
    ) -> KafkaSource:  # fmt: skip
        cluster, names = self.cluster, self.names
        again = partial(self.send_again, anchor) if anchor else None
        self._require_same_count(at)
        if cluster.partitions > 1:
            return PartedSource(
                cluster.bootstrap, names.topic, names.rows, cluster.partitions, self.describe, encoding, at,
                open_side=self.open_, plain_arrays=cluster.plain_arrays, options=cluster.options, watch=watch,
                send_again=again, anchor=anchor,
            )  # fmt: skip
        with self.closed.connect("stream") as conn:
            decided = decisions.read(conn, self.stream)
        return KafkaSource(
            cluster.bootstrap, names.topic, self.describe, encoding, at, open_side=self.open_,
            plain_arrays=cluster.plain_arrays, options=cluster.options, watch=watch, decisions=decided,
            send_again=again, anchor=anchor,
        )  # fmt: skip

    def _require_same_count(self, at: Position) -> None:
        began = len(at.parts) or 1
        if at.ordinal and began != self.cluster.partitions:
            raise RefusedError(
                f"context {self.stream.context!r}: the stream began with {began} partitions of rows, and [kafka] says"
                f" {self.cluster.partitions}",
                unchanged="nothing was read, the position was not moved",
                next_step=f"partitions = {began} in [kafka] until this stream has ended",
            )

    def prove(self, probe: bytes, timeout_s: float) -> None:
        """Start the connector of a stream that has no position yet, and wait until a message comes out of the topic.

        :raises ConnectorFailed: it does not run, or the message does not come in time.
        """
        api, names, cluster = self.cluster.connect, self.names, self.cluster
        wanted = self.wanted()
        connect.apply(api, names, wanted)
        if not topic.holds_message(cluster.bootstrap, names.topic, probe, timeout_s, options=cluster.options):
            raise connect.ConnectorFailed(
                f"connector {names.connector} runs, but a message does not come out of its topic",
                unchanged="the open side stays open",
                next_step=f"carveout doctor {self.stream.context}",
            )

    def describe(self) -> dict[TableName, Table]:
        """What the events have to look like, as of now."""
        with self.closed.connect("tables") as closed, self.open_.connect("tables") as opened:
            return descriptions(read_tables(closed, self.tables), read_tables(opened, self.tables))

    def _require_same_server(self, at: Position) -> None:
        with self.open_.connect("stream") as conn:
            row = conn.execute(
                "SELECT system_identifier::text, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
            ).fetchone()
            found, database = slot_status(conn, at.slot), conn.info.dbname
        assert row is not None
        if row != (at.system_identifier, at.timeline):
            raise slot_lost(at.slot, f"was on server {at.system_identifier}, timeline {at.timeline}; this is {row}")
        if not found.exists:
            raise slot_lost(at.slot, "does not exist")
        if found.invalidation_reason:
            raise slot_lost(at.slot, f"was invalidated by the server: {found.invalidation_reason}")
        if found.plugin != PLUGIN or found.database != database:
            raise slot_lost(at.slot, f"belongs to plugin {found.plugin} and database {found.database!r}")

    def _was_read(self, at: Position) -> bool:
        cluster = self.cluster
        return at.ordinal > 0 or not topic.is_empty(cluster.bootstrap, self.names.topic, options=cluster.options)

    def _appearing(self) -> dict[str, str]:
        names = self.names
        if found := connect.appearing(self.cluster.connect, names):
            return found
        raise RefusedError(
            f"connector {names.connector} is gone, and its topic holds events: somebody has deleted it",
            unchanged="nothing was made, the position was not moved",
            next_step=f"carveout connector apply {self.stream.context}",
        )

    def _require_slot_behind(self, at: Position) -> None:
        with self.open_.connect("stream") as conn:
            confirmed = slot_status(conn, at.slot).confirmed_flush_lsn
        if confirmed is None or confirmed > at.end_lsn:
            shown = "none" if confirmed is None else format_lsn(confirmed)
            raise slot_lost(at.slot, f"stands at {shown}, ahead of the stored position {format_lsn(at.end_lsn)}")

    def _let_run(self) -> None:
        """Resume a connector that is stopped: a worker that was killed while it set it back leaves it so."""
        api, names = self.cluster.connect, self.names
        found = connect.status(api, names)
        if found is not None and found.connector == "STOPPED":
            _log.warning("connector %s is stopped: resuming it", names.connector)
            connect.resume(api, names)

    def _require_running(self) -> None:
        """Restart a failed task once; what fails again needs somebody, and is tried again meanwhile."""
        api, names = self.cluster.connect, self.names
        found = connect.status(api, names)
        if found is None or not found.has_failed:
            return  # gone, or on its way: what arrives decides
        _log.warning("connector %s has failed, restarting it: %s", names.connector, found.trace)
        try:
            if place.is_inside_a_transaction(api, names):
                place.rewind(api, names)
            else:
                connect.restart(api, names)
                connect.await_running(api, names)
        except connect.ConnectorFailed as error:
            raise ConnectorDown(error.message, unchanged=error.unchanged, next_step=error.next_step) from error


def require_ours(found: dict[str, str], wanted: dict[str, str]) -> None:
    """Refuse a connector under which something would be lost, or that reads another stream.

    :raises RefusedError: names each setting with its reason.
    """
    name = wanted["topic.prefix"]
    _require_lossless(name, found)
    if others := foreign(found, wanted):
        raise _refused(name, "; ".join(others))


#: What makes a connector the one of its stream: where it reads, and where all of it goes.
OURS = ("database.hostname", "database.port", "database.dbname", "slot.name", "publication.name", "topic.prefix",
         "transforms", "transforms.one.type", "transforms.one.regex", "transforms.one.replacement",
         "transforms.rows.type", "transforms.rows.regex", "transforms.rows.replacement",
         "unavailable.value.placeholder")  # fmt: skip


def foreign(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """A sentence for each setting with which a connector reads or writes something else than this stream."""
    return [
        f"{key} is not the one of this stream"
        + ("" if key.startswith("unavailable") else f" ({found.get(key)}, not {wanted.get(key)})")
        for key in OURS
        if found.get(key) != wanted.get(key)
    ]


def _require_lossless(name: str, config: dict[str, str]) -> None:
    if found := settings.audit(config):
        raise _refused(name, "; ".join(f"{f.setting}={f.given}: {f.reason} ({f.fix})" for f in found))


def _refused(name: str, why: str) -> RefusedError:
    return RefusedError(
        f"connector {name}: {why}",
        unchanged="nothing was read, the connector was left as it is",
        next_step="take the setting back in [kafka] of context.toml or in Connect (carveout connector apply)",
    )


def rarely(action: Callable[[], None], every_s: float = WATCH_S) -> Callable[[], None]:
    """The same action, which does nothing where it was called a moment ago."""
    last = time.monotonic()

    def call() -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= every_s:
            last = now
            action()

    return call
