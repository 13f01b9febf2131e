"""The differing keys that the last verification stored, written as they are read: there may be any number."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from contexts.databases import Database
from contexts.model import TableName
from migrator import keys
from validations.diff.model import Difference, DiffResult, Extent
from validations.state.store import Verifications

VERSION = 1
Row = tuple[TableName, Difference]


@dataclass
class Found:
    """A verification and where its differences are."""

    context: str
    result: DiffResult
    store: Verifications
    #: How many have been read.
    count: int = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self.store.differences(self.result.verification):
            self.count += 1
            yield row


def latest(service: Database, context: str) -> Found | None:
    """The newest verification or sample, finished or not."""
    store = Verifications(service, context)
    result = store.latest(Extent.FULL, Extent.SAMPLE)
    return Found(context, result, store) if result else None


def write(out: TextIO, found: Found, shape: str, *, show_values: bool) -> int:
    """Write them as ``text``, ``csv``, ``json`` or ``jsonl``; returns how many there are."""
    writers: dict[str, Callable[[TextIO, Found, bool], None]] = {
        "text": _text, "csv": _csv, "json": _json, "jsonl": _jsonl,
    }  # fmt: skip
    writers[shape](out, found, show_values)
    return found.count


def to_json(row: Row, *, show_values: bool) -> dict[str, Any]:
    """The documented shape of one difference."""
    table, d = row
    shown = {"table": str(table), "kind": d.kind, "key": d.key, "columns": d.columns, "count": d.count}
    return shown | ({"open_values": d.open_values, "closed_values": d.closed_values} if show_values else {})


def _text(out: TextIO, found: Found, show_values: bool) -> None:
    if found.result.extent is Extent.SAMPLE:
        out.write("of a sample:\n")
    for table, d in found:
        out.write(f"{table} {d.kind} key={keys.written(d.key)} {' '.join(d.columns)}{_values(d, show_values)}\n")


def _values(d: Difference, show_values: bool) -> str:
    if not show_values or d.open_values is None or d.closed_values is None:
        return ""
    return f" open={json.dumps(d.open_values)} closed={json.dumps(d.closed_values)}"


def _csv(out: TextIO, found: Found, show_values: bool) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", "kind", "key", "columns", "count", *(["open", "closed"] if show_values else [])])
    for table, d in found:
        # A list is one field: as CSV where it names something, as JSON where NULL and the empty text must differ.
        values = [json.dumps(side) for side in (d.open_values, d.closed_values)] if show_values else []
        writer.writerow([str(table), d.kind, keys.written(d.key), keys.written(d.columns), d.count, *values])


def _jsonl(out: TextIO, found: Found, show_values: bool) -> None:
    for row in found:
        out.write(json.dumps(to_json(row, show_values=show_values)) + "\n")


def _json(out: TextIO, found: Found, show_values: bool) -> None:
    """One document, but never as a whole in memory."""
    head = {"version": VERSION, "context": found.context, "verification": found.result.verification,
            "extent": found.result.extent}  # fmt: skip
    out.write(json.dumps(head)[:-1] + ', "differences": [')
    for row in found:
        out.write((",\n" if found.count > 1 else "\n") + json.dumps(to_json(row, show_values=show_values)))
    steps = [f"carveout {'repair' if found.count else 'verify'} {found.context}"]
    out.write(f'\n], "next_steps": {json.dumps(steps)}}}\n')
