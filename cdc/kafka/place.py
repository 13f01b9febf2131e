"""The place from which a connector goes on: Connect stores it with what was sent, in the same Kafka transaction.

Connect shows and changes it over its REST interface (KIP-875), the latter only while the connector is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from cdc.kafka import connect
from cdc.kafka.connect import Connect, Names, path_of
from contexts.errors import CarveoutError, RefusedError, SlotLost


def offsets(api: Connect, names: Names) -> list[Any]:
    """The stored places of a connector that is there; empty where it has none."""
    found = api.call("GET", f"{path_of(names)}/offsets")
    return list(found["offsets"]) if found else []


def rewind(
    api: Connect, names: Names, lsn: int | None = None, *, meanwhile: Callable[[], None] = lambda: None,
    timeout_s: float = 60.0,
) -> None:  # fmt: skip
    """Stop the connector, set its place back to the end of a transaction, and let it run again.

    A connector that goes on inside a transaction leaves out the rows that share their position in the log with the
    last one it sent (those of one COPY); from a transaction's end on it sends everything. The slot keeps what comes
    after the last end that was acknowledged, so the server must not have been told of a later one than ``lsn``.

    :param lsn: the end of the last whole transaction; None: the last one that the connector knows.
    :param meanwhile: called while it is stopped, with its place set back.
    :raises ConnectorFailed: it does not stop or does not run again.
    :raises SlotLost: by ``meanwhile``; it stays stopped. After any other error it goes on from where it stands.
    """
    try:
        connect.stop(api, names, timeout_s)
        for one in offsets(api, names):
            end = lsn if lsn is not None else one["offset"].get("lsn_commit")
            body = {"offsets": [{"partition": one["partition"], "offset": _at_end(one["offset"], end)}]}
            api.call("PATCH", f"{path_of(names)}/offsets", body)
        meanwhile()
    except SlotLost:
        raise  # Debezium would make a slot of that name, and leave out what is before it
    except BaseException:
        with suppress(CarveoutError):  # a stopped one would be waited for
            connect.resume(api, names)
        raise
    connect.resume(api, names)
    connect.await_running(api, names, timeout_s)


def _at_end(offset: Mapping[str, Any], end: int | None) -> dict[str, Any] | None:
    """Debezium's place as it is right after a transaction; None (begin with the slot) where none has ended yet."""
    if end is None:
        return None
    kept = {key: value for key, value in offset.items() if not key.startswith("transaction_")}
    return {**kept, "lsn": end, "lsn_proc": end, "lsn_commit": end, "messageType": "COMMIT"}


def is_inside_a_transaction(api: Connect, names: Names) -> bool:
    """Whether the connector's stored place is not the end of a transaction."""
    return any(one["offset"].get("messageType") != "COMMIT" for one in offsets(api, names))


def apply_kept(api: Connect, names: Names, wanted: Mapping[str, str], timeout_s: float = 60.0) -> connect.Status:
    """Make a connector again that must go on from its stored place.

    :raises RefusedError: there is none: the connector is not started.
    :raises ConnectorFailed: as for :func:`cdc.kafka.connect.apply`.
    """
    body = {"name": names.connector, "config": dict(wanted), "initial_state": "STOPPED"}
    api.call("POST", "/connectors", body)
    if not offsets(api, names):
        api.call("DELETE", path_of(names))
        raise RefusedError(
            f"connector {names.connector}: its stored place is lost, and its slot may stand behind what is missing",
            unchanged="it was not started, the position was not moved",
            next_step="the stream cannot be had from here on: carveout abort, carveout prepare, and copy anew",
        )
    connect.resume(api, names)
    return connect.await_running(api, names, timeout_s)
