"""What a migration will do and about how long it will take, before anything is done."""

from __future__ import annotations

import math
from typing import Any

from contexts.catalog import leaves
from contexts.model import Side
from migrator.run import Run

#: Copy rate that the estimate assumes, in bytes per second; the copy shows the real one.
ASSUMED_COPY_RATE = 20_000_000
VERSION = 1


def plan(run: Run) -> dict[str, Any]:
    """Tables with sizes, predicted durations, and the commands in order; changes nothing."""
    tables = leaves(run.tables(Side.SHARED))
    options = run.context.options
    size = sum(table.bytes for table in tables)
    copy_s = size / ASSUMED_COPY_RATE
    return {
        "version": VERSION,
        "context": run.name,
        "state": run.migration().state,
        "tables": [
            {
                "table": str(table.name),
                "bytes": table.bytes,
                "estimated_rows": max(0, table.estimated_rows),
                "primary_key": list(table.primary_key),
            }
            for table in sorted(tables, key=lambda table: table.name)
        ],
        "bytes": size,
        "estimated_copy_s": round(copy_s, 1),
        "snapshot_cycles": max(1, math.ceil(copy_s / options.max_snapshot_age_s)),
        "write_block_limit_ms": options.switch_deadline_ms,
        "steps": [{"command": command, "what": what} for command, what in _steps(run.name)],
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The plan as a terminal shows it; estimates are marked with ``~``."""
    shown = [f"{found['context']} ({found['state']}): {len(found['tables'])} tables, {found['bytes'] / 1e6:.1f} MB"]
    shown += [
        f"  {table['table']:40} {table['bytes'] / 1e6:10.1f} MB  ~{table['estimated_rows']} rows"
        for table in found["tables"]
    ]
    shown += [
        f"copy: ~{found['estimated_copy_s']:.0f} s in ~{found['snapshot_cycles']} snapshot(s)",
        f"cutover: writes blocked for at most {found['write_block_limit_ms']} ms, else it goes back",
    ]
    return shown + [f"  {n}. {step['command']:34} {step['what']}" for n, step in enumerate(found["steps"], 1)]


def _steps(name: str) -> list[tuple[str, str]]:
    return [
        (f"carveout check {name}", "everything that stands in the way, with its fix"),
        (f"carveout prepare {name}", "schemas, write locks, gate, publication"),
        (f"carveout worker {name}", "copies, then follows; keep it running"),
        (f"carveout verify {name}", "proves both sides equal, under live writes"),
        (f"carveout cutover {name}", "opens the service side"),
        (f"carveout rollback {name}", "opens the shared side again, where you want it"),
        (f"carveout complete {name}", "removes the way back"),
    ]
