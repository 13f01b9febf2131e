"""The list of checks is complete, and the documentation is theirs."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest

from migrator import checks
from migrator.checks import registry
from migrator.checks.docs import table

ROOT = Path(__file__).parents[2]


def test_every_check_module_is_registered() -> None:
    found = {
        name.rpartition(".")[2]: name
        for room in registry.ROOMS
        for _, name, _ in pkgutil.iter_modules([f"{checks.__path__[0]}/{room}"], f"migrator.checks.{room}.")
    }
    assert set(found) == set(registry.NAMES)
    assert len(registry.NAMES) == len(set(registry.NAMES))
    rooms = {module.name for module in pkgutil.iter_modules(checks.__path__) if module.ispkg}
    assert rooms == set(registry.ROOMS)


@pytest.mark.parametrize("name", registry.NAMES)
def test_every_check_says_what_it_checks(name: str) -> None:
    text = registry.documentation(name)
    first, _, _ = text.partition("\n")
    assert 30 < len(first) <= 120
    assert first.endswith(".")
    assert callable(registry.load(name))


@pytest.mark.parametrize("name", registry.NAMES)
def test_every_check_is_named_in_some_test(name: str) -> None:
    files = [file for part in ("checks", "kafka") for file in (ROOT / "tests" / part).glob("test_*.py")]
    assert any(f'"{name}"' in file.read_text() for file in files), f"no test of {name}"


def test_the_documentation_lists_what_the_checks_say() -> None:
    written = (ROOT / "docs" / "checks.md").read_text()
    assert table() in written, "write it again: python -m migrator.checks.docs"
