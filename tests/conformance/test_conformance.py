"""The conformance test passes a shim that was written from the page alone, and fails its mutants."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contexts.databases import Databases
from tests.conformance.__main__ import streaming
from tests.conformance.program import Failed
from tests.conformance.scenarios import SCENARIOS, Stage
from tests.lockstep.conftest import Lockstepped

REFERENCE = Path(__file__).with_name("reference.py")
#: What is wrong with a mutant, and the scenario that finds it.
MUTANTS = {
    "no gate": ('f"LOCK TABLE carveout.gate_{CONTEXT} IN ACCESS SHARE MODE;"', '"SELECT 1;"', "gate closed"),
    "commits without PREPARE": (
        "service.execute(f\"PREPARE TRANSACTION '{gid}'\")", 'service.execute("COMMIT")', "killed",
    ),
    "settles before the decision": (
        'stop_at("prepared")', 'self.settle(gid), stop_at("prepared")', "killed",
    ),
    "never ships": ('if self.mode == "lockstep":', "if False:", "commit"),
    "stays on its side": ("if side == self.side:", "if True:", "other side"),
    "gives up at 55000": (
        "except psycopg.errors.ObjectNotInPrerequisiteState:", "except ZeroDivisionError:", "not yet",
    ),
    "believes every COMMIT": ('!= "COMMIT"', '== "never"', "failed commit"),
}  # fmt: skip


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> Iterator[Lockstepped]:
    with streaming(tmp_path_factory.mktemp("bank"), module_pair) as made:
        yield made


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_reference_passes(bank: Lockstepped, scenario: str) -> None:
    SCENARIOS[scenario](Stage(bank, [sys.executable, str(REFERENCE)]))


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails(pair: Databases, tmp_path: Path, mutant: str) -> None:
    right, wrong, scenario = MUTANTS[mutant]
    text = REFERENCE.read_text()
    assert text.count(right) == 1
    program = tmp_path / "mutant.py"
    program.write_text(text.replace(right, wrong))
    with streaming(tmp_path, pair) as bank, pytest.raises(Failed):  # a bank of its own: it may come to harm
        SCENARIOS[scenario](Stage(bank, [sys.executable, str(program)]))


def test_the_reference_knows_the_page_only() -> None:
    imported = {line.split()[1] for line in REFERENCE.read_text().splitlines() if line.startswith(("import ", "from "))}
    assert imported - {"psycopg"} <= sys.stdlib_module_names
