"""The house rules, where a machine can check them."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from contexts.killpoints import POINTS

ROOT = Path(__file__).parent.parent
PACKAGES = ("contexts", "cdc", "validations", "migrator")
MAX_MODULE_LINES = 400
MAX_README_LINES = 80

#: Modules that may be longer, each with its reason.
LONG_MODULES: dict[str, str] = {}

#: The machine that a file was written on, and hosts that packages came from. (Brackets keep this file out of it.)
FOREIGN = re.compile(
    r"(?<![\w.$}{])/(?:wor[k]|roo[t]|hom[e]/\w+|Use[r]s/\w+)/"
    r"|pyp[i]\.org|pythonhoste[d]\.org|deb\.debia[n]\.org|registr[y]\.npmjs|prox[y]\.golang"
    r"|(?:extra-)?index-ur[l][ =]+\S*://",
)
UNFINISHED = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X])\b")
SLEEP = re.compile(r"\btime\.sleep\(")


def repository_files() -> list[Path]:
    """Every text file that belongs to the repository, new ones too."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:  # an unpacked archive
        hidden = re.compile(r"(^|/)(\.(?!ci|git)|__pycache__|build/|dist/|[^/]*\.egg-info)")
        return [p for p in ROOT.rglob("*") if p.is_file() and not hidden.search(str(p.relative_to(ROOT)))]
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def matches(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    """``file:line: what`` of every place where the pattern occurs."""
    found = []
    for file in files:
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {match.group()}")
    return found


def package_files(*packages: str) -> list[Path]:
    return [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]


def test_no_file_names_a_machine_or_a_registry() -> None:
    assert matches(FOREIGN, repository_files()) == []


def test_nothing_is_left_unfinished() -> None:
    assert matches(UNFINISHED, [file for file in repository_files() if file.name != "requirements.lock"]) == []


def test_tests_wait_for_events_not_for_time() -> None:
    assert matches(SLEEP, package_files("tests")) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_have_one_purpose(package: str) -> None:
    lines = {str(f.relative_to(ROOT)): f.read_text().count("\n") for f in package_files(package)}
    too_long = {name: n for name, n in lines.items() if n > MAX_MODULE_LINES and name not in LONG_MODULES}
    assert too_long == {}, "split the module into a folder, or give the reason in LONG_MODULES"
    assert [name for name in LONG_MODULES if name in lines and lines[name] <= MAX_MODULE_LINES] == []


def test_every_package_folder_says_what_it_is() -> None:
    folders = {str(f.parent.relative_to(ROOT)) for f in package_files(*PACKAGES) if f.name == "__init__.py"}
    missing = {folder for folder in folders if not (ROOT / folder / "README.md").exists()}
    assert missing == set(), "write a README.md of at most a page there"


def test_readmes_are_a_page_at_most() -> None:
    pages = [path for package in PACKAGES for path in (ROOT / package).rglob("README.md")]
    assert [str(p.relative_to(ROOT)) for p in pages if p.read_text().count("\n") > MAX_README_LINES] == []


def called_points() -> dict[str, str]:
    """The kill points that the code calls, by name, with the place of one call."""
    called = {}
    for file in package_files(*PACKAGES):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] != "kill_point":
                continue
            where = f"{file.relative_to(ROOT)}:{node.lineno}"
            name = node.args[0] if node.args else None
            assert isinstance(name, ast.Constant), f"{where}: a kill point is called by a literal name"
            called[str(name.value)] = where
    return called


def test_every_kill_point_is_called() -> None:
    called = called_points()
    assert {name: place for name, place in called.items() if name not in POINTS} == {}, "not in killpoints.POINTS"
    assert set(POINTS) - set(called) == set(), "nothing calls these: a test would never be killed there"
