"""What ``carveout check`` says of Kafka, Connect and the connector, asked for real."""

from __future__ import annotations

from typing import Any

import pytest

from cdc.kafka import connect, topic
from cdc.kafka.cluster import Cluster
from cdc.kafka.stack import Stack
from cdc.state.position import StreamId
from contexts.databases import Databases
from contexts.embedded import free_port
from contexts.errors import ConfigError
from contexts.model import Context
from tests.checks.conftest import ACCOUNTS, SERVICE, SHARED, Case
from tests.kafka.moving import api

KAFKA_CHECKS = ("kafka_brokers", "kafka_connect", "kafka_connector", "kafka_columns")
STREAM = StreamId("wallet", 1)


@pytest.fixture
def case(pair: Databases, stack: Stack) -> Case:
    made = Case(pair)
    for side in (SHARED, SERVICE):
        made.sql(side, "CREATE SCHEMA app", ACCOUNTS)
    through(made, stack)
    return made


def through(case: Case, stack: Stack, **changes: Any) -> None:
    section = {"bootstrap": stack.bootstrap, "connect": stack.connect_url, "topic_prefix": "checks", **changes}
    case.declare(source="kafka", kafka=section)


def test_a_clean_pair_is_quiet(case: Case) -> None:
    assert [f for f in case.report(*KAFKA_CHECKS).findings if "password" not in f.message] == []


def test_every_refused_column_is_named_with_what_helps(case: Case, stack: Stack) -> None:
    case.sql(SHARED, "ALTER TABLE app.accounts ADD at timetz, ADD tags text[], ADD span interval")
    found = {f.object: f.fix for f in case.find("kafka_columns")}
    assert set(found) == {"app.accounts.at", "app.accounts.tags"}
    assert "embedded" in found["app.accounts.at"]
    through(case, stack, plain_arrays=["app.accounts.tags"])
    assert [f.object for f in case.find("kafka_columns") if "tags" in f.object and "plain" in f.fix] == []


def test_nobody_who_answers_is_a_blocker(case: Case, stack: Stack) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    through(case, stack, connect=f"http://{nobody}")
    assert "does not answer" in case.only("kafka_connect").message


def test_a_login_that_connect_cannot_make_is_named(case: Case, stack: Stack) -> None:
    through(case, stack, shared={"database.port": str(free_port())})
    found = [f for f in case.find("kafka_connect") if f.side is SHARED]
    assert found
    assert all("secret" not in f.message for f in found)


def test_settings_that_lose_something_are_refused(case: Case, stack: Stack) -> None:
    through(case, stack, connector={"decimal.handling.mode": "double"})
    found = case.find("kafka_connect")
    assert {f.side for f in found if "decimal.handling.mode=double" in f.message} == {SHARED, SERVICE}


def test_a_connector_and_a_topic_that_are_there_already_are_named(case: Case, stack: Stack) -> None:
    cluster = Cluster.of(case.context)
    names = cluster.names(STREAM)
    config = cluster.config(STREAM, case.databases.shared, "p" * 30)
    cluster.make_topics(STREAM)
    case.sql(SHARED, f"CREATE PUBLICATION {names.publication} FOR TABLE app.accounts")
    try:
        connect.apply(api(stack), names, {**config, "decimal.handling.mode": "precise"})
        messages = [f.message for f in case.find("kafka_connector")]
        assert any("is there already" in m for m in messages)
        assert any("decimal.handling.mode=precise" in m for m in messages)
    finally:
        cluster.remove(STREAM)
    assert case.find("kafka_connector") == []


def test_a_topic_that_loses_events_is_named(case: Case, stack: Stack) -> None:
    from kafka.admin import KafkaAdminClient

    name = Cluster.of(case.context).names(STREAM).topic
    admin: Any = KafkaAdminClient(bootstrap_servers=stack.bootstrap)
    admin.create_topics({name: {"num_partitions": 2}}, wait_for_metadata=True)
    admin.close()
    assert "2 partitions" in case.only("kafka_brokers").message
    topic.drop(stack.bootstrap, name)
    assert case.find("kafka_brokers") == []


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"client": {"sasl_password": "secret"}}, "holds a password"),
        ({"shared": {"database.password": "secret"}}, "holds a password"),
        ({"client": {"group_id": "g"}}, "only security_"),
        ({"connect": "localhost:8083"}, "write http"),
        ({"unknown": 1}, "not permitted"),
    ],
)
def test_a_wrong_section_is_refused(section: dict[str, Any], why: str) -> None:
    fields = {"name": "wallet", "tables": [{"name": "a"}], "service": {"url": "u"}, "source": "kafka"}
    with pytest.raises(ValueError, match=why):
        Context.model_validate({**fields, "kafka": {"bootstrap": "b", "connect": "http://c", **section}})
    with pytest.raises(ValueError, match="needs a section"):
        Context.model_validate(fields)


def test_secrets_come_from_variables_and_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECT_LOGIN", "who:s3cret")
    monkeypatch.setenv("SASL", "s3cret")
    section = {"bootstrap": "b:1", "connect": "https://${CONNECT_LOGIN}@c/", "client": {"sasl_password": "${SASL}"}}
    fields = {"name": "wallet", "tables": [{"name": "a"}], "service": {"url": "u"}, "source": "kafka"}
    cluster = Cluster.of(Context.model_validate({**fields, "kafka": section}))
    assert cluster.connect.url == "https://c"
    assert cluster.connect.authorization.startswith("Basic ")
    assert cluster.options["sasl_password"] == "s3cret"
    assert "s3cret" not in repr(cluster)
    monkeypatch.delenv("SASL")
    with pytest.raises(ConfigError, match="SASL"):
        Cluster.of(Context.model_validate({**fields, "kafka": section}))
