"""The model of the switch holds, each mutant of it is found, and its steps are those of the code."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from contexts.killpoints import POINTS
from migrator.control import switches
from migrator.switch import fence, procedure, settle, wayback
from tests.conftest import need

MODEL = Path(__file__).with_name("switch.pml")
#: What is checked at every run; each bound is named in the model.
SMALL = {
    "a cutover and a rollback, with a crash": ("-DWRITES=2", "-DLOST_LOCKS=0"),
    "a driver that lost its lock": ("-DWRITES=1", "-DLOST_LOCKS=1"),
}
MUTANTS = {
    "POSITION_BEFORE_FENCE": "nothing_lost",
    "SLOT_AFTER_OPEN": "rows",
    "JOURNAL_AFTER_OPEN": "one_open_side",
    "NO_DRIVER_NUMBER": "closed",
    "ANYBODY_MOVES_THE_POSITION": "rows",
}
#: The functions of the procedure that the walk through its steps goes into.
OPENED = (
    "_prepare",
    "_exchange",
    "_fence_and_drain",
    "_verify",
    "_commit",
    "open_all",
    "open_to",
    "finish",
    "finished",
)
#: How Spin writes the assertion that a mutant breaks.
BROKEN = {
    "nothing_lost": r"\(\(closed\[0\]\|\|\(\(acknowledged",
    "one_open_side": r"!\(closed\[0\]\)&& !\(closed\[1\]\)",
    "closed": r"!\(closed\[\(\(epoch",
    "rows": r"rows\[0\]==acknowledged",
}


def check(folder: Path, *defines: str) -> str:
    """What the checker says of the model."""
    need("spin", bool(shutil.which("spin") and shutil.which("gcc")), "apt-get install spin gcc")
    compile_ = ["gcc", "-O2", "-DSAFETY", "-DNOFAIR", "-DCOLLAPSE", "-DMEMLIM=2500", "-o", "pan", "pan.c"]
    for command in (["spin", "-a", *defines, str(MODEL)], compile_):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    return subprocess.run(
        ["./pan", "-m200000"], cwd=folder, capture_output=True, text=True, check=False, timeout=280
    ).stdout


@pytest.mark.parametrize("case", SMALL)
def test_the_switch_keeps_its_promises(tmp_path: Path, case: str) -> None:
    assert_holds(check(tmp_path, *SMALL[case]))


def test_the_switch_keeps_its_promises_in_the_largest_case(tmp_path: Path) -> None:
    if os.environ.get("CARVEOUT_MODEL") != "full":
        pytest.skip("a minute and 1 GB: set CARVEOUT_MODEL=full")
    assert_holds(check(tmp_path, "-DWRITES=2", "-DLOST_LOCKS=1"))


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_step_out_of_order_is_found(tmp_path: Path, mutant: str) -> None:
    said = check(tmp_path, f"-D{mutant}", *(("-DWRITES=1",) if "DRIVER" in mutant else ()))
    assert re.search(rf"pan:1: assertion violated .*{BROKEN[MUTANTS[mutant]]}", said), said


def assert_holds(said: str) -> None:
    assert "errors: 0" in said, said
    assert "max search depth too small" not in said, said
    states = re.search(r"(\d+) states, stored", said)
    assert states, said
    assert int(states.group(1)) > 100_000


def test_the_points_of_the_model_are_those_of_the_code_in_its_order() -> None:
    driver = MODEL.read_text().partition("proctype Driver")[2]
    driver = re.sub(r"#ifdef JOURNAL_AFTER_OPEN.*?#endif", "", driver, flags=re.S)
    points = re.findall(r"(?:kill_point|same_here)\((\w+)\)", driver)
    assert [point.replace("_", ".", 1) for point in points] == [p for p in POINTS if p.startswith("switch.")]


def test_the_steps_of_the_model_are_functions_of_the_code() -> None:
    modules = {"fence": fence, "wayback": wayback, "switches": switches}
    steps = [re.match(r"(\w+?)_(\w+)", name) for name in re.findall(r"^inline (\w+)", MODEL.read_text(), re.M)]
    assert len(steps) == 7
    for step in steps:
        assert step
        assert hasattr(modules[step.group(1)], step.group(2)), step.group()


def test_the_steps_stand_in_the_code_between_the_same_points() -> None:
    """Step and kill point in turn, as a switch that nobody disturbs comes to them."""
    ours = re.findall(r"(?:wayback|fence|switches)_\w+(?=\()|(?<=kill_point\()\w+|(?<=same_here\()\w+",
                      re.sub(r"#ifdef JOURNAL.*?#endif", "", _driver_of_the_model(), flags=re.S))  # fmt: skip
    assert [name for name in _walk("execute") if name in set(ours)] == ours


def _driver_of_the_model() -> str:
    return MODEL.read_text().partition("proctype Driver")[2].partition("settle:")[0]


def _walk(function: str) -> list[str]:
    """Calls of a function of the procedure in order, its own functions opened, in the model's spelling."""
    found: list[str] = []
    source = inspect.getsource(getattr(procedure, function, None) or getattr(settle, function))
    for call in _calls(ast.parse(source)):
        name = ast.unparse(call.func).removeprefix("settle.")
        if name == "kill_point":
            found.append(ast.literal_eval(call.args[0]).replace(".", "_"))
        elif name in OPENED:
            found += _walk(name)
        else:
            found.append(name.replace(".", "_"))
    return found


def _calls(tree: ast.AST) -> list[ast.Call]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return sorted(calls, key=lambda call: (call.lineno, call.col_offset))
