"""The outcome of a repair, for a terminal and as JSON (``docs/json.md``)."""

from __future__ import annotations

from typing import Any

from cdc.lsn import format_lsn
from contexts.errors import ExitCode
from migrator import keys
from migrator.repair.run import Repaired

VERSION = 1


def exit_code(done: Repaired) -> ExitCode:
    """DIFFERENCES where a repaired key differs again; a dry run has nothing to judge."""
    return ExitCode.DIFFERENCES if done.repair is not None and done.differences else ExitCode.DONE


def to_json(done: Repaired) -> dict[str, Any]:
    """The documented shape of ``repair --json``."""
    counts = done.counts
    return {
        "version": VERSION,
        "context": done.context.name,
        "dry_run": done.repair is None,
        "repair": done.repair,
        "resumed": done.resumed,
        "from": done.migration.open_side,
        "to": done.migration.closed_side,
        "keys": counts.keys,
        "repaired": 0 if done.repair is None else counts.repaired,
        "missing_on_closed": counts.missing_on_closed,
        "missing_on_open": counts.missing_on_open,
        "different": counts.different,
        "lsn_first": None if counts.lsn_first is None else format_lsn(counts.lsn_first),
        "lsn_last": None if counts.lsn_last is None else format_lsn(counts.lsn_last),
        "differences": [
            {"table": str(table), "kind": difference.kind, "key": difference.key, "columns": difference.columns}
            for table, difference in done.differences
        ],
        "next_steps": next_steps(done),
    }


def next_steps(done: Repaired) -> list[str]:
    """A repair proves nothing of the other rows: a verification follows."""
    return [f"carveout {'repair' if done.repair is None and done.differences else 'verify'} {done.context.name}"]


def lines(done: Repaired) -> list[str]:
    """The result as a terminal shows it."""
    name, counts, to = done.context.name, done.counts, done.migration.closed_side
    kinds = (
        f"missing {counts.missing_on_closed}, surplus {counts.missing_on_open}, different {counts.different},"
        f" equal already {counts.keys - counts.repaired}"
    )
    shown = [f"  {table} {d.kind} key={keys.written(d.key)} {' '.join(d.columns)}" for table, d in done.differences]
    if done.repair is None:
        first = f"{name}: would repair {counts.repaired} of {counts.keys} keys on the {to} side: {kinds}"
        return [first, *shown, "dry run: nothing was changed"]
    went_on = " (went on with an unfinished one)" if done.resumed else ""
    first = f"{name}: repair {done.repair}{went_on}: {counts.repaired} of {counts.keys} keys on the {to} side: {kinds}"
    judged = f"compared again: {len(done.differences)} of them differ" if done.differences else "compared again: equal"
    return [first, *shown, judged, *(f"next: {step}" for step in next_steps(done))]
