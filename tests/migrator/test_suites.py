"""Suites in ``verify``, by themselves, and in the gate of the switch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from contexts.databases import Databases
from contexts.errors import CarveoutError
from contexts.model import Side
from migrator.cli import cli
from migrator.cli.common import run_of
from migrator.proof import why_not_proven
from tests.migrator.moving import Bank
from tests.migrator.test_json import documented
from tests.test_repo import ROOT

MONEY = {"type": "expect_column_values_to_be_exact_money", "kwargs": {"column": "balance"}}
SAME = {"type": "expect_column_sum_to_equal_other_side", "kwargs": {"column": "balance"}}
NO_DEBT = {"type": "expect_rows_to_satisfy", "kwargs": {"condition": "balance >= 0"}, "description": "nobody owes"}


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    return Bank.create(tmp_path, pair)


def write(bank: Bank, *expectations: dict[str, Any], table: str = "bank.account", name: str = "accounts") -> Path:
    folder = bank.folder / "contexts" / "bank" / "suites"
    folder.mkdir(exist_ok=True)
    content = {"name": name, "meta": {"carveout": {"table": table}}, "expectations": expectations}
    (folder / f"{name}.json").write_text(json.dumps(content))
    return folder / f"{name}.json"


def command(bank: Bank, *arguments: str, expect: int = 0) -> str:
    """Run a command in this process, which imports great-expectations once; returns all that it said."""
    bank.expand_variables()
    done = CliRunner().invoke(cli, [*arguments, "--project", str(bank.folder)])
    refused = done.exception if isinstance(done.exception, CarveoutError) else None
    said = done.stdout + ("\n".join(refused.lines()) if refused else "")
    assert (refused.exit_code if refused else done.exit_code) == expect, f"{arguments}: {said}\n{done.exc_info}"
    return said


def run(bank: Bank, *options: str, expect: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command(bank, "suites", "run", "bank", "--json", *options, expect=expect))
    return found


def refusal(bank: Bank) -> str | None:
    """Why the switch would not take the last verification."""
    with run_of(bank.context, bank.databases(), "test") as run:
        return why_not_proven(run, Side.SHARED)


def test_suites_from_the_first_look_to_the_switch(bank: Bank) -> None:
    assert "there is no suite" in command(bank, "suites", "run", "bank", expect=2)
    file = write(bank, MONEY, NO_DEBT, SAME)
    found = run(bank, "--side", "shared", expect=0)  # before anything is prepared
    assert [one["type"] for one in found["suites"][0]["expectations"]] == [MONEY["type"], NO_DEBT["type"]]
    bank.cli("prepare", "bank", "--skip-check")
    assert "no worker is running" in command(bank, "suites", "run", "bank", expect=4)
    with bank.worker():
        bank.await_streaming()
        _verify_runs_them_and_the_gate_asks_for_them(bank, file)
        _what_is_not_met_forbids_the_switch(bank)
        _an_expectation_without_an_answer_is_an_error(bank, file)
        _without_the_library_nothing_is_proven(bank)
        _the_switch_takes_them(bank)


def _verify_runs_them_and_the_gate_asks_for_them(bank: Bank, file: Path) -> None:
    kept = file.rename(file.with_suffix(".kept"))
    assert "suites: none" in command(bank, "verify", "bank")
    assert refusal(bank) is None
    kept.rename(file)
    assert "suite accounts was not run as it is now" in str(refusal(bank))
    shown = command(bank, "verify", "bank")
    assert re.search(
        r"suites: 1 of 1 pass at \w+/\w+\n    accounts: 3 of 3 expectations of bank.account are met", shown
    )
    assert refusal(bank) is None


def _what_is_not_met_forbids_the_switch(bank: Bank) -> None:
    with bank.both.service.connect("test", session_replication_role="replica") as rogue:
        rogue.execute("UPDATE bank.account SET balance = -0.01 WHERE id = 2")
        found = run(bank, expect=3)
        rogue.execute("UPDATE bank.account SET balance = 100 WHERE id = 2")
    assert found.keys() == {"version", "context", "next_steps"} | documented("suites run")
    assert found["suites"][0].keys() == documented("suites run.suites")
    assert found["suites"][0]["expectations"][0].keys() == documented("suites run.suites.expectations")
    _, no_debt, same = found["suites"][0]["expectations"]
    assert [side["unexpected"] for side in no_debt["sides"]] == [0, 1]
    assert same["sides"][0]["observed"] == "shared 20000.00, service 19899.99"
    assert found["next_steps"] == ["carveout suites run bank --show-values"]
    assert "suite accounts: expect_rows_to_satisfy: not_met (critical)" in str(refusal(bank))
    assert "suite accounts" in command(bank, "cutover", "bank", expect=4)
    assert run(bank, expect=0)["passed"]
    assert refusal(bank) is None


def _an_expectation_without_an_answer_is_an_error(bank: Bank, file: Path) -> None:
    write(bank, MONEY, {"type": "expect_rows_to_satisfy", "kwargs": {"condition": "debt < 0"}})
    shown = command(bank, "verify", "bank", expect=1)
    assert "NOT PASSED" in shown
    assert 'error (critical): shared: column "debt" does not exist' in shown
    assert "suite accounts: expect_rows_to_satisfy: error" in str(refusal(bank))
    write(bank, {"type": "expect_column_values_to_be_exact_mony", "kwargs": {"column": "balance"}})
    assert "there is no such type; the nearest is" in command(bank, "verify", "bank", expect=2)
    file.write_text("{}")
    assert "the suites cannot be read" in str(refusal(bank))


def _without_the_library_nothing_is_proven(bank: Bank) -> None:
    write(bank, MONEY, SAME)
    hidden = bank.folder / "hidden"
    (hidden / "great_expectations").mkdir(parents=True)
    (hidden / "great_expectations" / "__init__.py").write_text("raise ImportError('not installed')")
    shown = bank.cli("verify", "bank", "--json", expect=1, PYTHONPATH=str(hidden)).stdout
    found = json.loads(shown)
    assert (found["passed"], found["verdict"], found["suites"]) == (False, "equal", [])
    assert found["suites_problem"] == "the suites did not run: suites need an extra: pip install 'carveout[suites]'"
    assert "suite accounts was not run" in str(refusal(bank))
    assert "need an extra" in bank.cli("suites", "run", "bank", expect=2, PYTHONPATH=str(hidden)).stderr


def _the_switch_takes_them(bank: Bank) -> None:
    docs = bank.folder / "docs"
    # Another machine, which has it, makes up for it; nothing but the document is on its output.
    shown = bank.cli("suites", "run", "bank", "--json", "--data-docs", str(docs))
    assert json.loads(shown.stdout)["passed"]
    assert shown.stderr == f"wrote {docs / 'index.html'}\n"
    assert {path.name for path in docs.iterdir()} == {
        "index.html", "accounts.shared.html", "accounts.service.html", "accounts.both.html",
    }  # fmt: skip
    bank.cli("cutover", "bank")
    assert bank.is_open(Side.SERVICE)


def test_only_a_run_imports_the_library() -> None:
    """It takes seconds and 220 MB: no other command may pay for it."""
    modules = "migrator.cli.status, migrator.cli.verify, migrator.cli.suites, migrator.cli.report, migrator.suites"
    looked = f"import sys, {modules}; print([m for m in ('great_expectations', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", looked], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
