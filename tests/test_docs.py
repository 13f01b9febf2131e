"""The documentation says what the code does: generated pages, commands, names, links."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from migrator.cli import cli
from migrator.cli.reference import NOTES, commands, reference
from migrator.worker.metrics import GAUGES, KAFKA_GAUGES, OUTBOX_GAUGES, PARTITION_LAG
from tests.test_repo import PACKAGES, ROOT, package_files

DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = dict(commands())
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}
#: The command in a sentence or a message: what follows must be a command, and in a group one of its own.
MENTION = re.compile(r"(?<!schema )\bcarveout ([a-z]+(?:-[a-z]+)*)(?: ([a-z]+))?")
LINK = re.compile(r"\[[^\]]*\]\(([^)#:]+)(?:#[^)]*)?\)")


def test_the_reference_is_what_the_commands_say() -> None:
    written = (ROOT / "docs" / "cli.md").read_text()
    assert written == reference(), "run: python -m migrator.cli.reference"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_explained(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    unexplained = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert unexplained == []
    assert NOTES[name].example.startswith(f"carveout {name}")


def test_every_example_can_be_parsed() -> None:
    assert NOTES.keys() == COMMANDS.keys()
    for note in NOTES.values():
        parse(note.example)


def test_every_command_in_the_pages_can_be_parsed() -> None:
    """Lines of code blocks that call ``carveout``, with their options."""
    lines = [line for page in DOCS for line in command_lines(page)]
    assert len(lines) > 10
    for line in lines:
        parse(line)


def test_every_command_that_code_or_docs_mention_exists() -> None:
    mentioned = [*strings_of_code(), *inline_code()]
    assert len(mentioned) > 50
    wrong = [
        (where, match.group())
        for where, text in mentioned
        for match in MENTION.finditer(text)
        if not is_command(match.group(1), match.group(2))
    ]
    assert wrong == []


def test_the_metrics_page_has_every_metric() -> None:
    page = (ROOT / "docs" / "howto" / "worker.md").read_text().partition("<!-- metrics -->")[2]
    assert set(re.findall(r"^\| `(carveout_\w+)`", page, re.M)) == {
        *GAUGES,
        *KAFKA_GAUGES,
        *OUTBOX_GAUGES,
        PARTITION_LAG[0],
        "carveout_state",
        "carveout_worker_age_seconds",
    }


def test_links_between_the_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in DOCS
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in DOCS[1:] if page.parent.name != "decisions"]
    assert [page for page in pages if page != "README.md" and f"({page})" not in index] == []


def test_every_decision_has_a_number_of_its_own() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    assert [int(page.name[:4]) for page in pages] == [*range(1, len(pages) + 1)]
    assert [page.name for page in pages if not page.read_text().startswith(f"# {int(page.name[:4])}. ")] == []


def is_command(first: str, second: str | None) -> bool:
    if first in GROUPS:
        return second is None or f"{first} {second}" in COMMANDS
    return first in COMMANDS


def parse(line: str) -> None:
    """Let click read the line; it is not run."""
    _, *words = shlex.split(line.split(" #")[0])
    command: click.Command = cli
    context = click.Context(cli, info_name="carveout")
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    try:
        command.make_context(command.name, words, parent=context)
    except click.UsageError as error:
        pytest.fail(f"{line}: {error.message}")


def command_lines(page: Path) -> Iterator[str]:
    """What a reader would type; usage lines of the reference are patterns, not commands."""
    for line in page.read_text().splitlines():
        if (match := re.match(r"(?:    |\$ |    \$ )?(carveout [a-z].*)$", line)) and not re.search(
            r"[\[\]<>…]|\.\.\.", line
        ):
            typed = match.group(1)
            if line.startswith(("    ", "$ ")) and typed.rstrip("\\") == typed:
                yield typed


def strings_of_code() -> Iterator[tuple[str, str]]:
    """Every string literal of the packages that is no docstring, f-strings joined with ``x`` for their values."""
    for file in package_files(*PACKAGES):
        tree = ast.parse(file.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            where = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                yield where, "".join(str(p.value) if isinstance(p, ast.Constant) else "X" for p in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | parts:
                yield where, node.value


def inline_code() -> Iterator[tuple[str, str]]:
    for page in DOCS:
        for code in re.findall(r"`([^`\n]+)`", page.read_text()):
            yield str(page.relative_to(ROOT)), code


def test_every_trap_has_tests_that_exist() -> None:
    page = (ROOT / "docs" / "traps.md").read_text()
    rows = re.findall(r"^\| (\d+) \| .* \| (.*) \|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", page)
    assert len(named) > len(rows)
    assert [f"{file}::{name}" for file, name in named if f"\ndef {name}(" not in _test_file(file)] == []


def _test_file(name: str) -> str:
    path = ROOT / "tests" / name
    return path.read_text() if path.exists() else ""
