"""What is said of a connector that someone else configured."""

from __future__ import annotations

import json

import pytest

from cdc.kafka import connect, link, settings
from cdc.kafka.connect import Names
from cdc.kafka.settings import Encoding, audit
from cdc.state.position import StreamId
from contexts.databases import Database
from contexts.errors import RefusedError
from contexts.model import Side
from tests.kafka import recorded

NAMES = Names.of(StreamId("wallet", 1))
OURS = connect.config(NAMES, Database(Side.SHARED, "postgresql://dbz:secret@db:5433/shop?sslmode=require"))


def test_our_own_configuration_loses_nothing() -> None:
    assert audit(OURS) == []
    encoding = Encoding.of(OURS)
    assert encoding.placeholder_is_private
    assert (encoding.decimal, encoding.time, encoding.binary, encoding.nulls_kept) == (
        "string",
        "microseconds",
        "bytes",
        True,
    )


def test_the_login_and_the_names_are_the_contexts() -> None:
    assert OURS["database.hostname"] == "db"
    assert OURS["database.port"] == "5433"
    assert OURS["database.dbname"] == "shop"
    assert OURS["database.sslmode"] == "require"
    assert OURS["slot.name"] == OURS["transforms.one.replacement"] == "carveout_wallet_1"
    assert OURS["publication.name"] == "carveout_wallet"
    reference = "${file:/run/secrets/db:password}"
    given = connect.config(NAMES, Database(Side.SHARED, "postgresql://dbz:secret@db/shop"), password=reference)
    assert given["database.password"] == reference
    assert "secret" not in given.values()


def test_each_connector_has_a_placeholder_of_its_own() -> None:
    other = connect.config(NAMES, Database(Side.SHARED, "postgresql://db/shop"))
    assert other["unavailable.value.placeholder"] != OURS["unavailable.value.placeholder"]


@pytest.mark.parametrize("rule", settings.RULES, ids=lambda rule: rule.name)
def test_every_rule_finds_what_it_is_about(rule: settings.Rule) -> None:
    [finding] = audit({**OURS, rule.name: "something else"})
    assert (finding.setting, finding.reason) == (rule.name, rule.reason)
    assert rule.name in finding.fix
    missing = {name: value for name, value in OURS.items() if name != rule.name}
    assert [f.setting for f in audit(missing)] == ([] if rule.allows(rule.default) else [rule.name])


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        ({"unavailable.value.placeholder": "__debezium_unavailable_value"}, "unavailable.value.placeholder"),
        ({"unavailable.value.placeholder": "short"}, "unavailable.value.placeholder"),
        ({"transforms": "one,two", "transforms.two.type": "io.debezium.transforms.Filter"}, "transforms.two.type"),
        ({"column.mask.with.10.chars": "app.t.c"}, "column.mask.with.10.chars"),
        ({"column.truncate.to.5.chars": "app.t.c"}, "column.truncate.to.5.chars"),
        ({"driver.options": "-c bytea_output=hex"}, "driver.options"),
        ({"driver.options": settings.session_options() + " -c intervalstyle=iso_8601"}, "driver.options"),
        ({"driver.options": settings.session_options().replace("digits=3", "digits=30")}, "driver.options"),
        ({"topic.creation.default.partitions": "1"}, "topic.creation.default.partitions"),
        ({"heartbeat.interval.ms": "0"}, "heartbeat.interval.ms"),
        ({"heartbeat.action.query": ""}, "heartbeat.action.query"),
    ],
)
def test_what_alters_values_is_found(change: dict[str, str], setting: str) -> None:
    assert [finding.setting for finding in audit({**OURS, **change})] == [setting]


def test_the_defaults_lose_nearly_everything() -> None:
    config = json.loads((recorded.DATA / "types-A-defaults.config.json").read_text())
    found = {finding.setting for finding in audit(config)}
    assert {
        "decimal.handling.mode", "interval.handling.mode", "include.unknown.datatypes", "skipped.operations",
        "provide.transaction.metadata", "value.converter.replace.null.with.default", "unavailable.value.placeholder",
        "snapshot.mode", "offset.mismatch.strategy",
    } <= found  # fmt: skip


@pytest.mark.parametrize("setting", link.OURS)
def test_a_connector_of_another_stream_is_named_by_each_setting(setting: str) -> None:
    assert link.foreign(OURS, OURS) == []
    [said] = link.foreign({**OURS, setting: "s3cret"}, OURS)
    assert said.startswith(f"{setting} is not the one of this stream")
    assert ("s3cret" in said) is (setting != "unavailable.value.placeholder")
    with pytest.raises(RefusedError):
        link.require_ours({**OURS, setting: "s3cret"}, OURS)
