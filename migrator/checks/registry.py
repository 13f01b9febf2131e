"""The list of all checks, in the order in which they run: what everything else stands on comes first."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import cast

from contexts.errors import ConfigError
from migrator.checks.model import Check

#: The room (a folder of this package) of each check; a check is the function ``check`` of the module of its name.
ROOMS: Mapping[str, Sequence[str]] = {
    "server": (
        "versions", "same_database", "pooler", "wal_level", "slots", "connections", "wal_retention", "encodings",
        "collations", "settings", "clocks", "extensions", "prepared_transactions", "transactions", "disk",
    ),
    "access": ("replication_login", "replica_role", "rights", "grants", "forgotten_grants", "role_settings"),
    "tables": (
        "tables", "keys", "full_identity", "generated_columns", "foreign_keys", "sequences", "partitions",
        "inheritance", "triggers", "rules", "functions", "views", "row_security", "large_objects", "types",
        "stream_rules", "row_versions", "outbox_tables",
    ),
    "state": ("publications", "subscriptions", "leftovers", "target_rows"),
    "kafka": ("kafka_brokers", "kafka_connect", "kafka_connector", "kafka_columns"),
}  # fmt: skip
NAMES: tuple[str, ...] = tuple(name for names in ROOMS.values() for name in names)


def selected(only: Sequence[str] | None) -> tuple[str, ...]:
    """The checks to run: all, or those named in ``only``, in the registry's order.

    :raises ConfigError: a name is unknown; the message lists those that exist.
    """
    if not only:
        return NAMES
    wanted = {name.replace("-", "_") for name in only}
    if unknown := sorted(wanted - set(NAMES)):
        raise ConfigError(f"no check {unknown[0]!r} (there: {', '.join(NAMES)})", next_step="carveout check --help")
    return tuple(name for name in NAMES if name in wanted)


def load(name: str) -> Check:
    """The check ``name``."""
    return cast(Check, importlib.import_module(_module(name)).check)


def documentation(name: str) -> str:
    """What the check says of itself: its module's docstring."""
    return inspect.cleandoc(importlib.import_module(_module(name)).__doc__ or "")


def _module(name: str) -> str:
    [room] = [room for room, names in ROOMS.items() if name in names]
    return f"migrator.checks.{room}.{name}"
