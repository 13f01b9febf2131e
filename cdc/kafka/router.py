"""The connector that publishes an outbox table by itself: Debezium with its Outbox Event Router.

It sends what Carveout's worker sends, and follows it when the migration has ended. Not for the stream: the router
takes rows out of it (docs/decisions/0017).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cdc.kafka import connect
from cdc.kafka.connect import Names
from contexts.databases import Database
from contexts.errors import ConfigError
from contexts.outbox import ROUTED, Outbox

_ROUTER = "io.debezium.transforms.outbox.EventRouter"
_TEXT = "org.apache.kafka.connect.storage.StringConverter"
_BYTES = "io.debezium.converters.BinaryDataConverter"
#: Of the stream's connector: how to log in, and what it reads.
_KEPT = (
    "connector.class", "database.", "driver.options", "topic.prefix", "slot.", "publication.", "plugin.name",
    "tasks.max", "snapshot.mode", "poll.interval.ms", "producer.override.", "offset.mismatch.strategy", "heartbeat.",
    "event.processing.failure.handling.mode", "errors.tolerance", "exactly.once.support", "tombstones.on.delete",
)  # fmt: skip


def names_of(context: str, prefix: str, outbox: Outbox) -> Names:
    """Connector, slot and publication of a context's outbox table; no stream has such names."""
    table = re.sub(r"[^a-z0-9_]", "_", outbox.table.name.lower())
    name = f"{context}_{table}_events"[:63]
    return Names(f"{prefix}_{name}", f"{prefix}_{name}", name, name)


def settings(
    names: Names, database: Database, outbox: Outbox, types: Mapping[str, str], partitions: int = 1
) -> dict[str, str]:
    """The configuration for Connect.

    :param types: the SQL type of each of the table's columns.
    :param partitions: of topics that Connect makes.
    :raises ConfigError: the router cannot read the declared timestamp.
    """
    if outbox.timestamp and types.get(outbox.timestamp, "").startswith("timestamp with time"):
        raise ConfigError(
            f"outbox table {outbox.table}: Debezium's router takes no timestamptz as the time of an event",
            next_step=f"make {outbox.timestamp} a timestamp, or declare none",
        )
    base = {key: value for key, value in connect.config(names, database).items() if key.startswith(_KEPT)}
    return {
        **base,
        "table.include.list": re.escape(f"{outbox.table.schema}.{outbox.table.name}"),
        # Only inserts are events; the heartbeat moves the slot on and is told to nobody.
        "skipped.operations": "u,d,t",
        "message.prefix.exclude.list": ".*",
        "extended.headers.enabled": "false",
        "topic.creation.default.partitions": str(partitions),
        "topic.creation.default.replication.factor": "-1",
        "key.converter": _TEXT,
        "value.converter": _BYTES if types.get(outbox.payload) == "bytea" else _TEXT,
        "value.converter.delegate.converter.type": _TEXT,
        **_transformation(outbox),
    }


def _transformation(outbox: Outbox) -> dict[str, str]:
    placed = {**({"eventType": outbox.type} if outbox.type else {}), **outbox.headers}
    given = {
        "type": _ROUTER,
        "table.field.event.id": outbox.id,
        "table.field.event.key": outbox.aggregate_id,
        "table.field.event.payload": outbox.payload,
        "table.field.event.timestamp": outbox.timestamp,
        "table.fields.additional.placement": ",".join(f"{column}:header:{name}" for name, column in placed.items()),
        "route.by.field": outbox.aggregate_type,
        "route.topic.replacement": outbox.topic.replace(ROUTED, "${routedByValue}"),
    }
    return {"transforms": "outbox", **{f"transforms.outbox.{key}": value for key, value in given.items() if value}}
