"""Names: of tables, as people write them and as the catalogs have them, of contexts, and of the two sides.

Light to import: applications do, through ``carveout.shims``.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

CONTEXT_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Side(enum.StrEnum):
    """One end of a migration."""

    SHARED = "shared"
    SERVICE = "service"

    @property
    def other(self) -> Side:
        """The opposite end."""
        return Side.SERVICE if self is Side.SHARED else Side.SHARED


class TableName(NamedTuple):
    """A schema-qualified table name, unquoted."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{_shown(self.schema)}.{_shown(self.name)}"

    @classmethod
    def parse(cls, text: str) -> TableName:
        """Read ``table``, ``schema.table`` or ``"Odd Schema"."Odd.Table"``; the schema defaults to ``public``.

        :raises ValueError: where the text is no table name.
        """
        parts = [quoted.replace('""', '"') or plain for quoted, plain in _NAME_PART.findall(text)]
        if not _NAME.fullmatch(text) or not 1 <= len(parts) <= 2:
            raise ValueError(f"{text!r} is no table name: write schema.table")
        return cls(parts[0], parts[1]) if len(parts) == 2 else cls("public", parts[0])


_PART = r'(?:"((?:[^"]|"")+)"|([^\s".]+))'
_NAME_PART = re.compile(_PART)
_NAME = re.compile(rf"{_PART}(?:\.{_PART})?")


def _shown(part: str) -> str:
    return part if re.fullmatch(r"[^\s\".]+", part) else '"' + part.replace('"', '""') + '"'


def to_table_name(value: object) -> TableName:
    """A :class:`TableName` from itself or its text, for models.

    :raises ValueError: it is neither.
    """
    if isinstance(value, TableName):
        return value
    if not isinstance(value, str):
        raise ValueError("a table name is a string: schema.table")
    return TableName.parse(value)
