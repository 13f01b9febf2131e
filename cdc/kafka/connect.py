"""The connector of a context: its publication and slot, its configuration, and Connect's REST interface.

Publication first, then the slot: the other order poisons the slot (a position of the log before the publication
cannot be decoded with it). Connect's interface: KIP-26 and its successors (``PUT /connectors/{name}/config``,
``/status``, ``/stop``, ``DELETE /connectors/{name}/offsets``).
"""

from __future__ import annotations

import http.client
import json
import re
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import conninfo

from cdc.kafka import settings, trace
from cdc.names import publication_name, slot_name
from cdc.source import slots
from cdc.state.position import StreamId
from contexts.databases import Connection, Database
from contexts.errors import CarveoutError, DatabaseUnreachable, RefusedError
from contexts.model import TableName

#: The greatest record: rows can be large, and a record that does not fit stops the connector.
MAX_RECORD_BYTES = 128 << 20
_STATUS_POLL_S = 0.1
_ROUTER = "org.apache.kafka.connect.transforms.RegexRouter"


class ConnectUnreachable(DatabaseUnreachable):
    """Connect's REST interface did not answer."""


class ConnectorFailed(CarveoutError):
    """Connect refused the connector, or its task failed."""


@dataclass(frozen=True, slots=True)
class Names:
    """What belongs to one stream; connector, topic and slot end alike, so each leads to the others."""

    connector: str
    topic: str
    slot: str
    publication: str

    @property
    def rows(self) -> str:
        """The topic of the rows, where they come in several partitions: ``topic`` holds everything else then."""
        return f"{self.topic}_rows"

    @classmethod
    def of(cls, stream: StreamId, prefix: str = "carveout") -> Names:
        """The names of a context's stream; ``prefix`` is that of connector and topic."""
        name = f"{prefix}_{stream.context}_{stream.epoch}"
        return cls(name, name, slot_name(stream), publication_name(stream.context))


@dataclass(frozen=True, slots=True)
class Status:
    """A connector as Connect sees it; ``trace`` is what a failed task says, without values of rows."""

    connector: str
    tasks: tuple[str, ...]
    trace: str = ""

    @property
    def is_running(self) -> bool:
        """Whether the connector and its one task run."""
        return self.connector == "RUNNING" and self.tasks == ("RUNNING",)

    @property
    def has_failed(self) -> bool:
        """Whether it needs somebody."""
        return "FAILED" in (self.connector, *self.tasks)


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect's REST interface at ``url``."""

    url: str
    timeout_s: float = 30.0
    #: The ``Authorization`` header, where the interface asks for one.
    authorization: str = field(default="", repr=False)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request; the parsed answer, None where it is empty or (404) nothing is there.

        :raises ConnectUnreachable: no answer.
        :raises ConnectorFailed: an answer of 400 or more.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self.authorization:
            headers["Authorization"] = self.authorization
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            if error.code == http.client.NOT_FOUND:
                return None
            raise ConnectorFailed(f"Connect ({self.url}): {method} {path}: {_reason(error)}") from error
        except (OSError, http.client.HTTPException) as error:
            raise ConnectUnreachable(f"Connect ({self.url}) does not answer: {error}") from error
        return json.loads(text) if text else None


def prepare(conn: Connection, names: Names, tables: Sequence[TableName], *, slot_timeout_s: float = 30.0) -> int:
    """Make the publication and then the slot where they are not there; the slot's position.

    Where the copy makes the slot (with an exported snapshot) it is only looked at.

    :param conn: an autocommit connection to the open side.
    :raises RefusedError: a publication or slot of that name is there and not ours.
    :raises SlotBlocked: the slot could not be made in time.
    """
    slots.create_publication(conn, names.publication, tables)
    found = slots.slot_status(conn, names.slot)
    if not found.exists:
        return slots.create_slot(conn, names.slot, publication=names.publication, timeout_s=slot_timeout_s)
    if found.plugin != slots.PLUGIN or found.database != conn.info.dbname or found.confirmed_flush_lsn is None:
        raise RefusedError(
            f"slot {names.slot}: it belongs to plugin {found.plugin} and database {found.database!r}",
            unchanged="nothing was changed",
            next_step="find out who reads it; drop it if nobody does",
        )
    return found.confirmed_flush_lsn


def remove(conn: Connection, names: Names) -> None:
    """Drop slot and publication, where they are; the connector has to be gone.

    :raises SlotActive: somebody still reads the slot.
    """
    slots.drop_slot(conn, names.slot)
    slots.drop_publication(conn, names.publication)


def config(
    names: Names, database: Database, *, password: str = "", placeholder: str = "", heartbeat_ms: int = 1000,
    partitions: int = 1,
) -> dict[str, str]:  # fmt: skip
    """The configuration of a context's connector: one topic with one partition holds all, in commit order.

    :param password: goes in as it is: give a reference to one of the worker's config providers
        (``${file:/etc/...:password}``), since Connect keeps and shows the configuration. Empty: the URL's.
    :param placeholder: the one in use, where the connector is there already.
    :param partitions: with more than one, the rows go into a topic of their own.
    """
    given = conninfo.conninfo_to_dict(database.url)
    # Without a host our own session takes the socket of this machine, which Connect cannot.
    login = {
        "database.hostname": str(given.get("host") or given.get("hostaddr") or "localhost"),
        "database.port": str(given.get("port") or 5432),
        "database.user": str(given.get("user") or ""),
        "database.password": password or str(given.get("password") or ""),
        "database.dbname": str(given.get("dbname") or ""),
        "database.sslmode": str(given.get("sslmode") or "prefer"),
    }
    # A message needs no table of its own, moves the slot on, and tells how far the stream is.
    beat = f"SELECT pg_catalog.pg_logical_emit_message(false, '{settings.HEARTBEAT_PREFIX}', '')"
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        **settings.lossless(),
        **login,
        "driver.options": settings.session_options(),
        "topic.prefix": names.topic,
        "slot.name": names.slot,
        "publication.name": names.publication,
        "unavailable.value.placeholder": placeholder or f"__carveout_unchanged_{secrets.token_hex(16)}",
        "heartbeat.interval.ms": str(heartbeat_ms),
        "heartbeat.action.query": beat,
        "notification.sink.topic.name": names.topic,
        **_routing(names, partitions),
        "tombstones.on.delete": "false",
        "poll.interval.ms": "20",
        "producer.override.compression.type": "lz4",
        "producer.override.max.request.size": str(MAX_RECORD_BYTES),
        # A killed worker's open transaction holds up its successor, which may not read past it, for so long.
        "producer.override.transaction.timeout.ms": "15000",
        "producer.override.buffer.memory": str(2 * MAX_RECORD_BYTES),
    }


def _routing(names: Names, partitions: int) -> dict[str, str]:
    one = {"transforms.one.type": _ROUTER, "transforms.one.replacement": names.topic}
    if partitions == 1:
        return {"transforms": "one", **one, "transforms.one.regex": ".*"}
    return {
        "transforms": "rows,one",
        # Rows are in <prefix>.<schema>.<table>, and nothing else has so many parts.
        "transforms.rows.type": _ROUTER,
        "transforms.rows.regex": re.escape(names.topic) + r"\..+\..+",
        "transforms.rows.replacement": names.rows,
        **one,
        "transforms.one.regex": f"(?!{re.escape(names.rows)}$).*",
    }


def require_ready(connect: Connect) -> None:
    """Wait for no one, but do not believe a worker that is starting: it answers before it knows its connectors.

    :raises ConnectUnreachable: it is starting, or has lost its brokers (``/health``, since Kafka 3.9).
    """
    try:
        connect.call("GET", "/health")
    except ConnectorFailed as error:
        raise ConnectUnreachable(f"Connect ({connect.url}) is not ready: {error.message}") from error


def listed(connect: Connect) -> list[str]:
    """The names of all connectors."""
    require_ready(connect)
    return list(connect.call("GET", "/connectors") or ())


def current(connect: Connect, names: Names) -> dict[str, str] | None:
    """The configuration that Connect holds, or None."""
    path = f"{path_of(names)}/config"
    found: dict[str, str] | None = connect.call("GET", path)
    if found is None:
        require_ready(connect)
        found = connect.call("GET", path)
    return found


def appearing(connect: Connect, names: Names, timeout_s: float = 20.0) -> dict[str, str] | None:
    """As :func:`current`, but None only where it is not there for a while.

    A worker that has just started answers, and calls itself healthy, a moment before it knows its connectors.
    """
    deadline = time.monotonic() + timeout_s
    while (found := current(connect, names)) is None and time.monotonic() < deadline:
        time.sleep(_STATUS_POLL_S)  # Connect tells readiness only when asked
    return found


def validate(connect: Connect, wanted: Mapping[str, str]) -> dict[str, str]:
    """What Connect and the connector's plugin say against a configuration, by setting; they log in to the database.

    :raises ConnectorFailed: there is no such plugin.
    """
    kind = wanted["connector.class"]
    found = connect.call("PUT", f"/connector-plugins/{kind}/config/validate", {"name": "carveout", **wanted})
    if found is None:
        raise ConnectorFailed(f"Connect ({connect.url}) has no plugin {kind}", next_step="install Debezium's there")
    values = [one["value"] for one in found["configs"]]
    return {value["name"]: "; ".join(value["errors"]) for value in values if value.get("errors")}


def apply(connect: Connect, names: Names, wanted: Mapping[str, str], timeout_s: float = 60.0) -> Status:
    """Make or change the connector and wait until its task runs.

    :raises ConnectorFailed: it was refused, or its task failed; the connector stays as it is, to be looked at.
    """
    connect.call("PUT", f"{path_of(names)}/config", dict(wanted))
    return await_running(connect, names, timeout_s)


def await_running(connect: Connect, names: Names, timeout_s: float = 60.0) -> Status:
    """Wait until the connector's task runs.

    :raises ConnectorFailed: it failed, or did not run in time.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = status(connect, names)
        if found is not None and found.has_failed:
            raise _failed(names, found.trace)
        if found is not None and found.is_running:
            return found
        time.sleep(_STATUS_POLL_S)  # Connect tells readiness only when asked
    raise _failed(names, f"it did not run within {timeout_s:.0f} s")


def status(connect: Connect, names: Names) -> Status | None:
    """How the connector does, or None where there is none."""
    found = connect.call("GET", f"{path_of(names)}/status")
    if found is None:
        return None
    whole = next((t["trace"] for t in (found["connector"], *found["tasks"]) if t.get("trace")), "")
    said = trace.shown(whole, (names.connector, names.slot, names.publication))
    return Status(found["connector"]["state"], tuple(t["state"] for t in found["tasks"]), said)


def restart(connect: Connect, names: Names) -> None:
    """Start the connector's failed task again."""
    connect.call("POST", f"{path_of(names)}/restart?includeTasks=true&onlyFailed=true")


def stop(connect: Connect, names: Names, timeout_s: float = 60.0) -> None:
    """Stop the connector, and wait until its task has ended; its place stays.

    :raises ConnectorFailed: it does not stop in time.
    """
    deadline = time.monotonic() + timeout_s
    connect.call("PUT", f"{path_of(names)}/stop")
    while (found := status(connect, names)) is None or found.connector != "STOPPED" or found.tasks:
        if time.monotonic() > deadline:
            raise _failed(names, f"it does not stop within {timeout_s:.0f} s")
        time.sleep(_STATUS_POLL_S)  # Connect tells its progress only when asked


def resume(connect: Connect, names: Names) -> None:
    """Let a stopped connector run again."""
    connect.call("PUT", f"{path_of(names)}/resume")


def delete(connect: Connect, names: Names, timeout_s: float = 60.0) -> None:
    """Remove the connector with its offsets: a later one of the same name must not go on from them."""
    require_ready(connect)
    deadline = time.monotonic() + timeout_s
    asked = removed = False
    while (found := status(connect, names)) is not None:
        if time.monotonic() > deadline:
            raise _failed(names, f"it is still there after {timeout_s:.0f} s")
        if not asked:
            connect.call("PUT", f"{path_of(names)}/stop")
            asked = True
        elif not removed and found.connector == "STOPPED" and not found.tasks:
            connect.call("DELETE", f"{path_of(names)}/offsets")
            connect.call("DELETE", path_of(names))
            removed = True
        time.sleep(_STATUS_POLL_S)  # Connect tells its progress only when asked


def path_of(names: Names) -> str:
    """Where Connect has the connector."""
    return f"/connectors/{urllib.parse.quote(names.connector, safe='')}"


def _failed(names: Names, why: str) -> ConnectorFailed:
    return ConnectorFailed(
        f"connector {names.connector}: {why}",
        unchanged="slot, publication and topic are as they were",
        next_step="look at the Connect worker's log",
    )


def _reason(error: urllib.error.HTTPError) -> str:
    # The body may quote the configuration, and that may hold a password: only Connect's own message is shown.
    try:
        message = str(json.loads(error.read()).get("message", ""))
    except (ValueError, AttributeError, OSError):
        message = ""
    return f"{error.code} {message.partition(chr(10))[0][:300]}"
