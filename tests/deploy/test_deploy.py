"""What ``deploy/`` holds cannot be run here: so it is linted, against schemas, and against the code that it names."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from cdc.kafka import jars
from cdc.kafka.stack import CONNECT_JVM, connect_settings
from migrator.cli import COMMANDS
from migrator.worker.metrics import GAUGES, KAFKA_GAUGES, OUTBOX_GAUGES, PARTITION_LAG
from tests.test_docs import parse
from tests.test_repo import ROOT, package_files

DEPLOY = ROOT / "deploy"
HERE = Path(__file__).parent
YAMLS = sorted(DEPLOY.rglob("*.yaml"))
METRICS = {*GAUGES, *KAFKA_GAUGES, *OUTBOX_GAUGES, PARTITION_LAG[0], "carveout_state", "carveout_worker_age_seconds"}
#: Kinds of Kubernetes itself; those of Strimzi have no schema that a package brings.
SCHEMAS = json.loads((HERE / "kubernetes.json").read_text())
STRIMZI = {"Kafka", "KafkaNodePool", "KafkaUser", "KafkaConnect"}


def documents(file: Path) -> list[Any]:
    yaml = YAML(typ="safe", pure=True)
    return [one for one in yaml.load_all(file) if one is not None]


def resources() -> Iterator[Any]:
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        yield from documents(file)


def of_kind(kind: str) -> list[Any]:
    return [one for one in resources() if one["kind"] == kind]


COMPOSE = documents(DEPLOY / "compose.yaml")[0]


@pytest.mark.parametrize("file", YAMLS, ids=lambda file: file.relative_to(DEPLOY).as_posix())
def test_every_file_is_yaml_without_doubled_keys(file: Path) -> None:
    assert documents(file)


def test_compose_follows_its_specification() -> None:
    validator = Draft202012Validator(json.loads((HERE / "compose-spec.json").read_text()))
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(COMPOSE)] == []
    assert {p for service in COMPOSE["services"].values() for p in service["profiles"]} == {
        "core", "kafka", "observability", "tools",
    }  # fmt: skip
    named = {secret for service in COMPOSE["services"].values() for secret in service.get("secrets", ())}
    assert named == COMPOSE["secrets"].keys()


@pytest.mark.parametrize("resource", list(resources()), ids=lambda one: one["kind"])
def test_resources_follow_kubernetes(resource: Any) -> None:
    kind = resource["kind"]
    if kind in SCHEMAS["$defs"]:
        validator = Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": SCHEMAS["$defs"]})
        assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(resource)] == []
    elif kind in STRIMZI:
        assert resource["apiVersion"] == "kafka.strimzi.io/v1"
        assert {"metadata", "spec"} <= resource.keys()
    else:
        assert kind == "Kustomization"


def test_the_kustomization_names_every_file_but_the_job() -> None:
    [found] = of_kind("Kustomization")
    files = {file.name for file in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert set(found["resources"]) == files - {"kustomization.yaml", "job.yaml"}


def pods() -> list[Any]:
    return [one["spec"]["template"]["spec"] for one in (*of_kind("Deployment"), *of_kind("Job"))]


def test_pods_have_no_more_rights_than_they_need() -> None:
    assert len(pods()) == 2
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            secured = container["securityContext"]
            assert secured["readOnlyRootFilesystem"] is True
            assert secured["allowPrivilegeEscalation"] is False
            assert secured["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]
            mounted = {one["name"] for one in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}
    user = re.findall(r"^USER (\d+):", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert user == [str(pod["securityContext"]["runAsUser"]) for pod in pods()][:1]


def test_the_worker_is_looked_after() -> None:
    [worker] = pods()[:1]
    [container] = worker["containers"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
    [port] = container["ports"]
    assert f"0.0.0.0:{port['containerPort']}" in container["args"]
    assert of_kind("Deployment")[0]["spec"]["strategy"] == {"type": "Recreate"}
    [target] = documents(DEPLOY / "prometheus" / "prometheus.yaml")[0]["scrape_configs"][0]["static_configs"]
    assert target["targets"] == [f"worker:{port['containerPort']}"]


def images() -> Iterator[str]:
    for service in COMPOSE["services"].values():
        yield service["image"]
    for file in DEPLOY.rglob("Dockerfile"):
        yield from re.findall(r"^FROM (\S+)", file.read_text(), re.M)
    for pod in pods()[1:]:
        yield from (container["image"] for container in pod["containers"])
    yield from (connect["spec"]["build"]["output"]["image"] for connect in of_kind("KafkaConnect"))


@pytest.mark.parametrize("image", sorted(set(images())))
def test_every_image_has_a_whole_version(image: str) -> None:
    name, _, tag = image.rpartition(":")
    assert name
    assert re.match(r"v?\d+\.\d+", tag), image


def test_the_versions_are_those_of_the_tests() -> None:
    assert COMPOSE["services"]["kafka"]["image"] == f"apache/kafka:{jars.KAFKA_VERSION}"
    assert f"FROM apache/kafka:{jars.KAFKA_VERSION}\n" in (DEPLOY / "connect" / "Dockerfile").read_text()
    assert f"<version>{jars.DEBEZIUM_VERSION}</version>" in (DEPLOY / "connect" / "pom.xml").read_text()
    for one in (*of_kind("Kafka"), *of_kind("KafkaConnect")):
        assert one["spec"].get("version", one["spec"].get("kafka", {}).get("version")) == jars.KAFKA_VERSION
    [connect] = of_kind("KafkaConnect")
    [plugin] = connect["spec"]["build"]["plugins"]
    assert [one["version"] for one in plugin["artifacts"]] == [jars.DEBEZIUM_VERSION]
    pinned = dict(re.findall(r"^(\S+?)(?:\[\S*\])?==(\S+)", (ROOT / "requirements.lock").read_text(), re.M))
    shipped = dict(re.findall(r"^(\S+?)(?:\[\S*\])?==(\S+)", (DEPLOY / "requirements.lock").read_text(), re.M))
    assert {"kafka-python", "prometheus-client", "psycopg"} <= shipped.keys()
    assert {name: version for name, version in shipped.items() if pinned.get(name) != version} == {}


def test_connect_loses_nothing_by_its_own_settings() -> None:
    lines = (DEPLOY / "connect" / "connect.properties").read_text().splitlines()
    compose = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    [strimzi] = of_kind("KafkaConnect")
    tested = connect_settings("", 0)
    for given in (compose, strimzi["spec"]["config"]):
        for name in ("exactly.once.source.support", "key.converter", "value.converter"):
            assert given[name] == tested[name], name
    assert f"KAFKA_OPTS={CONNECT_JVM[0]}" in (DEPLOY / "connect" / "Dockerfile").read_text()
    [zone] = strimzi["spec"]["jvmOptions"]["javaSystemProperties"]
    assert f"-D{zone['name']}={zone['value']}" == CONNECT_JVM[0]
    # With it the operator would remove the connectors that the worker makes.
    assert "strimzi.io/use-connector-resources" not in strimzi["metadata"].get("annotations", {})


def carveout_commands() -> Iterator[list[str]]:
    for name in ("worker", "cli"):
        yield COMPOSE["services"][name]["command"]
    for pod in pods():
        yield from (container["args"] for container in pod["containers"])


@pytest.mark.parametrize("command", list(carveout_commands()), ids=" ".join)
def test_every_command_is_one(command: list[str]) -> None:
    parse(f"carveout {shlex.join(command)}")


def test_commands_that_the_job_and_the_alerts_lead_to_exist() -> None:
    texts = [(DEPLOY / "kubernetes" / "job.yaml").read_text()]
    named = set(re.findall(r'\["([a-z-]+)", "wallet"\]', texts[0]))
    for alert in alerts():
        named |= set(re.findall(r"\bcarveout ([a-z-]+)", alert["annotations"]["description"]))
    assert len(named) > 5
    assert named <= COMMANDS.keys()


def test_every_variable_is_one_that_is_read() -> None:
    given = {name for service in ("worker", "cli") for name in COMPOSE["services"][service]["environment"]}
    given |= {one["name"] for pod in pods() for container in pod["containers"] for one in container["env"]}
    texts = [(ROOT / "carveout.toml").read_text()]
    texts += [file.read_text() for file in (ROOT / "contexts").glob("*/context.toml")]
    texts += [(DEPLOY / "README.md").read_text(), *(file.read_text() for file in package_files("contexts"))]
    read = set(re.findall(r"\$\{([A-Z_]+)\}", "\n".join(texts)))
    assert given
    assert {name for name in given if name.removesuffix("_FILE") not in read} == set()


def scalars(value: Any, *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text in a document, with the keys that lead to it."""
    match value:
        case dict():
            for key, inner in value.items():
                yield from scalars(inner, *path, str(key))
        case list():
            for inner in value:
                yield from scalars(inner, *path)
        case str():
            yield path, value
        case _:
            pass  # a number or a boolean is no secret


def test_secrets_are_references() -> None:
    found = [one for file in YAMLS for document in documents(file) for one in scalars(document)]
    assert [text for _, text in found if re.search(r"://[^\s/:]+:[^\s/]+@", text)] == []
    secret = [(path, text) for path, text in found if re.search("password", path[-1], re.I)]
    assert len(secret) >= 3
    for path, text in secret:
        assert text.startswith("/run/secrets/") or "passwordSecret" in path, path


def alerts() -> list[Any]:
    [group] = documents(DEPLOY / "prometheus" / "alerts.yaml")[0]["groups"]
    rules: list[Any] = group["rules"]
    return rules


def queries() -> Iterator[str]:
    yield from (alert["expr"] for alert in alerts())
    for panel in json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("query", list(queries()))
def test_every_query_is_promql_over_metrics_that_exist(query: str) -> None:
    promql_parser.parse(query.replace("$context", ".*"))
    named = set(re.findall(r"\bcarveout_\w+", query))
    assert named
    assert named <= METRICS


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for query in queries() for name in re.findall(r"\bcarveout_\w+", query)}
    assert shown == METRICS
    panels = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
