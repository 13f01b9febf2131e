"""One database entry in a PgBouncer's configuration file: where it leads, and leading it elsewhere.

Everything else of the file stays as it is, to the byte. A new version takes the file's place in one step.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

#: ``host``, ``port`` and ``dbname`` as the file has them; one that is not there is None.
Address = dict[str, str | None]
KEYS = ("host", "port", "dbname")
_SECTION = re.compile(r"\s*\[\s*(\w+)\s*\]")
_ENTRY = re.compile(r'(\s*(?:"([^"]+)"|([\w.*-]+))\s*=\s*)(.*?)(\s*)$', re.DOTALL)
_PAIR = re.compile(r"(\w+)\s*=\s*('(?:[^']|'')*'|[^\s']\S*)")
_PLAIN = re.compile(r"[\w.:/,-]+")


def address(text: str, entry: str) -> Address | None:
    """Where an entry leads; None where the file has no such entry."""
    found = None
    for _, name, value in _entries(text):
        if name == entry:
            given = {key: _unquoted(raw) for key, raw in _PAIR.findall(value)}
            found = {key: given.get(key) for key in KEYS}
    return found


def pointed(text: str, entry: str, to: Mapping[str, str | None]) -> str:
    """The text with the entry leading to an address; its other settings stay."""
    lines = text.splitlines(keepends=True)
    for number, name, value in _entries(text):
        if name == entry:
            lines[number] = _ENTRY.sub(lambda m: f"{m[1]}{_changed(value, to)}{m[5]}", lines[number])  # noqa: B023
    return "".join(lines)


def read(path: Path) -> str:
    """The file's text with its own line ends.

    :raises OSError: it cannot be read.
    """
    return path.read_bytes().decode()


def replace(path: Path, text: str) -> None:
    """Put a new version in the file's place: on disk, with the old one's mode and owner, and never half of it.

    :raises OSError: it cannot be written; the old version stands.
    """
    path = path.resolve()  # a link stays a link
    old = path.stat()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:  # only ours to read so far: entries may hold passwords
            file.write(text.encode())
            file.flush()
            if (os.fstat(file.fileno()).st_uid, os.fstat(file.fileno()).st_gid) != (old.st_uid, old.st_gid):
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
            os.fchmod(file.fileno(), old.st_mode & 0o7777)
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _entries(text: str) -> Iterator[tuple[int, str, str]]:
    """The line, name and value of every database entry; a comment is a line of its own there."""
    section = None
    for number, line in enumerate(text.splitlines(keepends=True)):
        if line.lstrip().startswith((";", "#")):
            continue
        if heading := _SECTION.match(line):
            section = heading[1]
        elif section == "databases" and (found := _ENTRY.match(line)):
            yield number, found[2] or found[3], found[4]


def _changed(value: str, to: Mapping[str, str | None]) -> str:
    for key in KEYS:
        pattern = re.compile(rf"(?<![\w']){key}\s*=\s*('(?:[^']|'')*'|[^\s']\S*)")
        wanted = to.get(key)
        if wanted is None:
            value = re.sub(rf"\s*{pattern.pattern}", "", value)
        elif pattern.search(value):
            value = pattern.sub(lambda _: f"{key}={_quoted(wanted)}", value)  # noqa: B023
        else:
            value = f"{value} {key}={_quoted(wanted)}".lstrip()
    return value


def _quoted(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else "'" + value.replace("'", "''") + "'"


def _unquoted(raw: str) -> str:
    return raw[1:-1].replace("''", "'") if raw.startswith("'") else raw
