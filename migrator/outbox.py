"""What an operator sees of a context's outbox, and decides about events that the sink refuses."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg import sql

from cdc.outbox import queue
from cdc.outbox.queue import Backlog
from contexts.catalog import Table, read_tables
from contexts.errors import ConfigError, RefusedError
from contexts.model import Context, Side
from contexts.outbox import KafkaSink
from migrator.connector import without_secrets
from migrator.control import migrations
from migrator.run import Run
from migrator.switch import markers

if TYPE_CHECKING:
    from cdc.kafka.connect import Names


#: How long the last events may take through the stream, and to be published.
PUBLISHING_S = 10.0
_PAUSE_S = 0.1
_log = logging.getLogger(__name__)


def backlogs(run: Run) -> dict[Side, Backlog]:
    """What waits on each side.

    :raises ConfigError: the context has no outbox.
    """
    if not run.context.outbox:
        raise ConfigError(
            f"{run.context.folder / 'context.toml'}: outbox: {run.name} declares none",
            unchanged="nothing was changed",
            next_step="docs/howto/outbox.md says how",
        )
    return {side: queue.backlog(run.executor.connection(side), run.name) for side in Side}


def described(run: Run) -> dict[str, Any]:
    """As ``outbox status --json`` prints it."""
    found = queue.together(backlogs(run).values())
    return {
        "waiting": found.events,
        "oldest": found.oldest,
        "held": found.held,
        "first_held": [asdict(event) for event in found.first_held],
    }


def retry(run: Run) -> None:
    """Have every held event tried again, for a sink that takes more now."""
    for side in backlogs(run):
        conn = run.executor.connection(side)
        run.executor.act(side, "try the held events again", partial(queue.release, conn, run.name))


def skip(run: Run, event_id: str, reason: str) -> None:
    """Give a held event up: it is never published, and what waits behind it goes on.

    :raises RefusedError: no event of that id is held.
    """
    held = [side for side in backlogs(run) if queue.is_held(run.executor.connection(side), run.name, event_id)]
    if not held:
        raise RefusedError(
            f"context {run.name!r}: no event {event_id!r} is held",
            unchanged="nothing was changed",
            next_step=f"carveout outbox status {run.name}",
        )
    run.executor.act(
        held[0], f"give event {event_id} up", lambda: queue.skip(run.executor.connection(held[0]), run.name, event_id)
    )
    detail = {"event": event_id, "reason": reason}
    run.executor.act(
        Side.SHARED, "record that", lambda: migrations.record(run.control, run.name, "outbox_skipped", detail)
    )


def warn_of_waiting(run: Run) -> None:
    """Say that events wait for which no worker will be there."""
    if waiting := _waiting(run):
        _log.warning(
            "context %s: %d events are not published; they are when a worker follows it again", run.name, waiting
        )


def require_published(run: Run) -> None:
    """Refuse to end the migration while there are events that nobody would publish any more.

    What applications have written is in the queue only once the stream has brought it: so a marker has to come first.

    :raises RefusedError: the stream does not bring it, or events wait.
    """
    if run.context.outbox:
        run.executor.act(None, "wait until the events of the outbox are published", partial(_await_published, run))


def _await_published(run: Run) -> None:
    _await_stream(run)
    newest = {side: queue.newest(run.executor.connection(side), run.name) for side in Side}
    deadline = time.monotonic() + PUBLISHING_S
    while True:
        found = [queue.waiting_until(run.executor.connection(side), run.name, last) for side, last in newest.items()]
        waiting, held = (sum(numbers) for numbers in zip(*found, strict=True))
        if not waiting:
            return
        if held or time.monotonic() > deadline:
            break
        time.sleep(_PAUSE_S)  # the publisher tells nobody
    raise RefusedError(
        f"context {run.name!r}: {waiting} events of its outbox are not published yet",
        unchanged="nothing was changed",
        next_step=f"let the worker publish them; carveout outbox status {run.name} names those that are held",
    )


def _await_stream(run: Run) -> None:
    """Wait until what is in the outbox tables now is in the queue."""
    migration, marker = run.migration(), markers.new(run.name, "probe")
    markers.emit(run.executor, migration.open_side, marker)
    try:
        markers.wait_applied(run.databases[migration.closed_side], marker, time.monotonic() + PUBLISHING_S)
    except markers.MarkerLost as error:
        raise RefusedError(
            f"context {run.name!r}: the stream has not brought the last rows of its outbox: those events would be lost",
            unchanged="nothing was changed",
            next_step=f"let carveout worker {run.name} catch up",
        ) from error


def _waiting(run: Run) -> int:
    return queue.together(backlogs(run).values()).events if run.context.outbox else 0


def successors(run: Run, side: Side) -> list[dict[str, Any]]:
    """What publishes the outbox tables of a side when the migration has ended: a Debezium connector for each.

    :raises ConfigError: the context has no outbox, or a table is none that Debezium's router can read.
    """
    from cdc.kafka import router  # needs nothing of Kafka's client

    context = run.context
    backlogs(run)
    prefix = context.kafka.topic_prefix if context.kafka else "carveout"
    tables = read_tables(run.executor.connection(side), [outbox.table for outbox in context.outbox])
    found = []
    for outbox in context.outbox:
        if (table := tables.get(outbox.table)) is None:
            raise ConfigError(f"outbox table {outbox.table} is not on the {side} side", unchanged="nothing was changed")
        names = router.names_of(context.name, prefix, outbox)
        types = {column.name: column.base_type_sql for column in table.columns}
        config = router.settings(names, run.databases[side], outbox, types, _partitions(context))
        found.append({"name": names.connector, "first": _first(names, table), "config": without_secrets(config)})
    return found


def _partitions(context: Context) -> int:
    return (context.outbox_sink.partitions or 1) if isinstance(context.outbox_sink, KafkaSink) else 1


def _first(names: Names, table: Table) -> list[str]:
    """The statements to run before: publication first, then the slot."""
    publication = sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)").format(
        sql.Identifier(names.publication), table.identifier()
    )
    slot = sql.SQL("SELECT pg_create_logical_replication_slot({}, 'pgoutput')").format(sql.Literal(names.slot))
    return [publication.as_string(), slot.as_string()]
