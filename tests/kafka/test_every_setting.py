"""Every setting that Debezium knows is either judged or known to lose nothing: a new one has to be looked at."""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdc.kafka import jars, settings
from cdc.kafka.connect import Connect
from cdc.kafka.settings import RULES
from cdc.kafka.stack import Stack
from tests.conftest import need

CLASSES = (
    ("debezium-connector-postgres", "io/debezium/connector/postgresql/PostgresConnectorConfig.class"),
    ("debezium-connector-common", "io/debezium/config/CommonConnectorConfig.class"),
    ("debezium-connector-common", "io/debezium/relational/RelationalDatabaseConnectorConfig.class"),
)
PLUGIN = "io.debezium.connector.postgresql.PostgresConnector"
#: Judged by code of their own in ``settings``.
JUDGED_APART = {"heartbeat.interval.ms", "heartbeat.action.query", "unavailable.value.placeholder"}
#: Pattern -> why it can lose nothing, whatever it says.
HARMLESS = {
    r"database\.(hostname|port|dbname)|slot\.name|publication\.name|topic\.prefix":
        "the stream's own: another one is named by `connector status` and refused by the worker",
    r"database\.(user|password|ssl\w+|tcpKeepAlive|query\.timeout\.ms)|connection\.validation\.timeout\.ms":
        "how it logs in",
    r"snapshot\.(?!mode$).*|(internal\.)?legacy\.snapshot\..*|internal\.snapshot\..*|incremental\.snapshot\..*":
        "there are no snapshots (snapshot.mode and the signals are judged)",
    r"slot\.(max\.retries|retry\.delay\.ms)|create\.slot\.command\.timeout|errors\.max\.retries"
    r"|retriable\.restart\.connector\.wait\.ms|custom\.retriable\.exception|executor\.shutdown\.timeout\.ms":
        "how often it tries again; at the end its task fails",
    r"slot\.failover": "of slots that the connector makes: Carveout makes them",
    r"slot\.seek\.to\.known\.offset\.on\.start": "the former name of offset.mismatch.strategy, which is always set",
    r"max\.(batch|queue)\.size(\.in\.bytes)?|poll\.interval\.ms|query\.fetch\.size|queue\.provider\.type"
    r"|(streaming|signal)\.(delay|poll\.interval)\.ms|status\.update\.interval\.ms|xmin\.fetch\.interval\.ms":
        "how fast",
    r"lsn\.flush\.timeout\.(ms|action)": "an acknowledgement that is late keeps more log, never less",
    r"publish\.via\.partition\.root": "of publications that the connector makes: Carveout makes them",
    r"tombstones\.on\.delete": "tombstones are passed over",
    r"heartbeat\.topics\.prefix|topic\.naming\.strategy|notification\.sink\.topic\.name":
        "the router replaces the names of topics",
    r"table\.ignore\.builtin": "the catalogs are in no publication",
    r"datatype\.propagate\.source\.type|include\.schema\.(changes|comments)": "adds to the schema, and is not read",
    r"database\.(include|exclude)\.list": "of connectors that read several databases",
    r"(internal\.)?(log\.position\.check|advanced\.metrics)\.enable|statistics\.metrics\.enabled|custom\.metric\.tags"
    r"|openlineage\..*|guardrail\..*|custom\.sanitize\.pattern|memory\.management\..*|task\.id|multi\.partition\.mode":
        "about metrics, lineage, limits at the start, or memory",
    r"name|config\.action\.reload|tasks\.max\.enforce|(\w+\.)*plugin\.version|errors\.(retry\..*|log\.enable)"
    r"|transaction\.boundary(\.interval\.ms)?":
        "Connect's own: names, versions, retries, how often it commits",
    r"offsets\.storage\.topic": "a connector that has lost its place by it is noticed at its first event",
    r"key\.converter": "keys are not read",
    r"topic\.creation\..*|transforms": "judged by their beginning, or one by one",
    r"column\.mask\..*|column\.truncate\..*": "judged by their beginning",
}  # fmt: skip
#: Texts in the classes that look like settings.
NO_SETTINGS = {"dbz_publication", "replica_autoset_values"}


def constants(data: bytes) -> Iterator[str]:
    """The texts of a Java class's constant pool (JVM specification, 4.4)."""
    count, at, index = struct.unpack(">H", data[8:10])[0], 10, 1
    sizes = {3: 5, 4: 5, 5: 9, 6: 9, 7: 3, 8: 3, 9: 5, 10: 5, 11: 5, 12: 5, 15: 4, 16: 3, 17: 5, 18: 5, 19: 3, 20: 3}
    while index < count:
        if (tag := data[at]) == 1:
            (length,) = struct.unpack(">H", data[at + 1 : at + 3])
            yield data[at + 3 : at + 3 + length].decode("utf-8", "replace")
            at += 3 + length
        else:
            at += sizes[tag]
            index += tag in (5, 6)  # a long and a double take two places
        index += 1


@pytest.fixture(scope="module")
def folder() -> Path:
    missing = jars.missing_tools()
    need("kafka", not missing, f"put {', '.join(missing)} on the PATH")
    return jars.fetch()


def in_the_classes(folder: Path) -> set[str]:
    """The settings that the classes name: some are read and told to nobody."""
    found: set[str] = set()
    for jar, name in CLASSES:
        with zipfile.ZipFile(folder / f"{jar}-{jars.DEBEZIUM_VERSION}.jar") as file:
            texts = constants(file.read(name))
            found |= {text for text in texts if re.fullmatch(r"[a-z]+(?:[._][a-zA-Z0-9]+)+", text)}
    return {name for name in found - NO_SETTINGS if not name.startswith(("java.", "io."))}


def listed(stack: Stack) -> dict[str, Any]:
    """The settings that the plugin tells of, with their defaults."""
    found = Connect(stack.connect_url).call("GET", f"/connector-plugins/{PLUGIN}/config")
    return {one["name"]: one["default_value"] for one in found}


def is_known(name: str) -> bool:
    rules = {rule.name for rule in RULES} | JUDGED_APART
    return name in rules or any(re.fullmatch(pattern, name) for pattern in HARMLESS)


def test_every_setting_in_the_classes_is_known(folder: Path) -> None:
    found = in_the_classes(folder)
    assert {"event.converting.failure.handling.mode", "skipped.operations", "decimal.handling.mode"} <= found
    assert sorted(name for name in found if not is_known(name)) == []


def test_every_setting_that_the_plugin_tells_is_known(stack: Stack) -> None:
    found = listed(stack)
    assert len(found) > 100
    assert sorted(name for name in found if not is_known(name)) == []


def test_the_defaults_are_the_plugins(stack: Stack) -> None:
    found = listed(stack)
    for rule in RULES:
        if rule.name in found:
            told = str(found[rule.name] or "").removeprefix("class ").strip("[]")
            assert told == rule.default.replace("the worker's", "") or (told in rule.also and not rule.default), (
                rule.name
            )


def test_no_rule_is_doubled_or_also_harmless() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert [rule.name for rule in settings.RULES if any(re.fullmatch(p, rule.name) for p in HARMLESS)] == []
