"""Keys as people read and write them: one CSV record, so that any value can stand in it."""

from __future__ import annotations

import csv
import io

from contexts.errors import ConfigError
from validations.diff.model import Key


def written(key: Key) -> str:
    """``7``, or ``EUR,"a,b"``."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(key)
    return out.getvalue()


def read(text: str) -> Key:
    """The key that :func:`written` wrote.

    :raises ConfigError: it is no CSV record.
    """
    try:
        (record,) = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (csv.Error, ValueError):
        raise ConfigError(f"{text!r} is no key: write it as one CSV record", unchanged="nothing was changed") from None
    return tuple(record)
