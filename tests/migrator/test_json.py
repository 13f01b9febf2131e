"""The ``--json`` documents have exactly the keys that docs/json.md explains; one run of the main job for all."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from contexts.databases import Databases
from contexts.model import Side
from tests.migrator.moving import Bank
from tests.test_docs import parse
from tests.test_repo import ROOT

COMMON = {"version", "context", "next_steps"}
#: Keys of a status that a planned context has; the page says "From `prepared` on" of the others.
PLANNED = {"state", "open_side", "epoch", "updated_at"}
DOCUMENTS = [
    "plan",
    "verify",
    "differences",
    "repair",
    "report",
    "cutover",
    "doctor",
    "schema check",
    "status",
    "rules list",
    "stragglers",
    "grants check",
]
INVARIANT = """-- proves: no account is below zero
-- severity: error
-- sides: shared, service
SELECT id FROM bank.account WHERE balance < 0
"""


def documented(section: str) -> set[str]:
    """The keys in the first column of the table behind ``<!-- keys: section -->``."""
    page = (ROOT / "docs" / "json.md").read_text()
    table = page.partition(f"<!-- keys: {section} -->\n")[2].partition("\n\n")[0].splitlines()[2:]
    assert table, section
    return {key for row in table for key in re.findall(r"`([a-z_]+)`", row.split("|")[1])}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> dict[str, dict[str, Any]]:
    """What the commands print at their place in the main job."""
    bank = Bank.create(tmp_path_factory.mktemp("json"), module_pair)
    invariants = bank.folder / "contexts" / "bank" / "invariants"
    invariants.mkdir()
    (invariants / "nobody_owes.sql").write_text(INVARIANT)
    bank.declare('[[rules]]\nname = "fixed"\nkind = "immutable"\ntable = "bank.account"\ncolumns = ["balance"]')
    found: dict[str, dict[str, Any]] = {}

    def run(name: str, *arguments: str, expect: int = 0) -> None:
        found[name] = json.loads(bank.cli(*arguments, "--json", expect=expect).stdout)

    run("status planned", "status", "bank")
    run("plan", "plan", "bank")
    bank.cli("prepare", "bank", "--skip-check")
    run("doctor", "doctor", "bank", expect=5)  # no worker
    with bank.worker():
        bank.await_streaming()
        bank.pay(Side.SHARED, 1, 2)
        run("schema check", "schema", "check", "bank")
        bank.cli("verify", "bank", "--time-limit", "0.000001", expect=3)
        run("status while verifying", "status", "bank")
        run("verify", "verify", "bank")
        found["differences"] = json.loads(bank.cli("differences", "bank", "--format", "json").stdout)
        run("repair", "repair", "bank", "--table", "bank.account", "--key", "1")
        run("cutover", "cutover", "bank")
        bank.await_streaming()
        bank.cli("throttle", "bank", "100000")
        run("stragglers", "stragglers", "bank")
        run("grants check", "grants", "check", "bank")
        run("status", "status", "bank")
        run("status all", "status")
        run("verify back", "verify", "bank")
        run("rollback", "rollback", "bank")
        run("report", "report", "bank")
        run("rules list", "rules", "list", "bank")
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_has_the_keys_of_its_page(documents: dict[str, dict[str, Any]], name: str) -> None:
    common = COMMON - {"next_steps"} if name == "plan" else COMMON
    assert documents[name].keys() == common | documented(name)
    assert documents[name]["version"] == 1


def test_the_report_keeps_its_schema(documents: dict[str, dict[str, Any]]) -> None:
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert [error.message for error in validator.iter_errors(documents["report"])] == []
    assert documents["report"]["samples"]
    assert documents["report"].keys() == set(schema["properties"])  # nothing that it does not explain


def test_a_rollback_has_the_shape_of_a_cutover(documents: dict[str, dict[str, Any]]) -> None:
    assert documents["rollback"].keys() == documents["cutover"].keys()
    assert (documents["rollback"]["from"], documents["rollback"]["to"]) == ("service", "shared")


@pytest.mark.parametrize(
    ("section", "part"),
    [
        ("verify.tables", lambda all_: all_["verify"]["tables"][0]),
        ("verify.invariants", lambda all_: all_["verify"]["invariants"][0]),
        ("report.switches", lambda all_: all_["report"]["switches"][0]),
        ("status.worker", lambda all_: all_["status"]["worker"]),
        ("status.worker.copy", lambda all_: all_["status"]["worker"]["copy"]),
        ("status.proof", lambda all_: all_["status"]["proof"]),
        ("status.rules", lambda all_: all_["status"]["rules"]),
        ("rules list.violations", lambda all_: all_["rules list"]["violations"][0]),
        ("status.verifying", lambda all_: all_["status while verifying"]["verifying"]),
        ("status.last_switch", lambda all_: all_["status"]["last_switch"]),
    ],
)
def test_a_part_has_the_keys_of_its_page(
    documents: dict[str, dict[str, Any]], section: str, part: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    assert part(documents).keys() == documented(section)


def test_status_of_a_planned_context_and_of_all(documents: dict[str, dict[str, Any]]) -> None:
    assert documents["status planned"].keys() == COMMON | PLANNED
    assert documents["status all"].keys() == {"version", "contexts"}
    assert [one.keys() for one in documents["status all"]["contexts"]] == [documents["status"].keys()]


def test_the_breakdown_of_a_switch_is_the_blocked_time(documents: dict[str, dict[str, Any]]) -> None:
    page = (ROOT / "docs" / "json.md").read_text()
    for report in (documents["cutover"], documents["rollback"], documents["status"]["last_switch"]):
        assert all(f"`{part}`" in page for part in report["breakdown_ms"])
        assert sum(report["breakdown_ms"].values()) == pytest.approx(report["write_block_ms"], abs=1)


def test_times_are_iso_8601_and_positions_are_text(documents: dict[str, dict[str, Any]]) -> None:
    status, verify = documents["status"], documents["verify"]
    for text in (status["updated_at"], status["last_switch"]["ended_at"], verify["started_at"]):
        assert "T" in text
        assert dt.datetime.fromisoformat(text).tzinfo
    for lsn in (status["worker"]["end_lsn"], status["proof"]["lsn"], verify["lsn_last"]):
        assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", lsn)


def test_next_steps_are_commands(documents: dict[str, dict[str, Any]]) -> None:
    steps = [step for one in documents.values() for step in one.get("next_steps", [])]
    steps += [step["command"] for step in documents["plan"]["steps"]]
    assert len(steps) > 10
    for step in steps:
        parse(step)
    assert documents["doctor"]["next_steps"] == ["carveout worker bank"]
