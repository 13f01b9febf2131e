"""Named SQL: statements longer than a line live in ``.sql`` files beside the module that runs them."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from psycopg import sql

_HEADER = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def load(package: str, file: str) -> dict[str, sql.SQL]:
    """The statements of ``package``'s ``file`` by the name in each ``-- name: x`` line."""
    text = resources.files(package).joinpath(file).read_text(encoding="utf-8")
    _, *parts = _HEADER.split(text)
    # The text is our own file, never input: the one place where a str becomes SQL.
    return {name: sql.SQL(body.strip()) for name, body in zip(parts[::2], parts[1::2], strict=True)}
