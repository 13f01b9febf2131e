"""The table of all checks in ``docs/checks.md``, made from their own docstrings.

``python -m migrator.checks.docs`` writes it again, in the folder that holds ``docs/``.
"""

from __future__ import annotations

from pathlib import Path

from migrator.checks import registry

FILE = Path("docs") / "checks.md"
BEGIN, END = "<!-- begin: made by python -m migrator.checks.docs -->\n", "<!-- end -->\n"


def table() -> str:
    """One row for each check, by room."""
    rows = [
        f"| `{name}` | {room} | {' '.join(registry.documentation(name).split())} |"
        for room, names in registry.ROOMS.items()
        for name in names
    ]
    return "\n".join(["| check | about | what must hold |", "|---|---|---|", *rows, ""])


def write(file: Path = FILE) -> None:
    """Put the table between the marks of the file.

    :raises ValueError: the file has no marks.
    """
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{file}: no line {BEGIN.strip()!r} and {END.strip()!r}")
    file.write_text(before + BEGIN + table() + END + after, encoding="utf-8")


if __name__ == "__main__":
    write()
