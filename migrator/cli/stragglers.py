"""``stragglers``: who still uses the closed tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from contexts.errors import RefusedError
from contexts.model import Side
from migrator.cli.common import context_argument, json_option, load, print_json, project_option, run_of
from migrator.lifecycle import State
from migrator.run import Run
from migrator.watch import stragglers as seeing
from migrator.watch.stragglers import Collector, Seen, Straggler

_SHOWN = {"refused": "was refused to write", "write": "was seen writing", "read": "was seen reading",
          "statement": "ran statements that name"}  # fmt: skip


@click.command()
@context_argument
@project_option
@json_option
def stragglers(context_name: str, project_dir: Path | None, as_json: bool) -> None:
    """List the roles, applications and addresses that still use the closed tables.

    Attempts to write are counted without gaps. Readers are seen if they hold a lock when the worker looks, or by
    pg_stat_statements where it is installed: an empty list does not prove that nobody reads.
    """
    context, both = load(project_dir, context_name)
    with run_of(context, both, "stragglers") as run:
        side = _closed_side(run)
        conn = run.executor.connection(side)
        # One look of our own: no worker runs after `complete`.
        Collector(run.name).look(conn, run.migration().epoch, [table.oid for table in run.tables(side)])
        found = seeing.read(conn, run.name)
    if as_json:
        print_json(_document(context.name, side, found))
    else:
        click.echo("\n".join(_lines(side, found)))


def _closed_side(run: Run) -> Side:
    migration = run.migration()
    if migration.state in (State.PLANNED, State.PREPARED, State.ABORTED, State.ABORTING):
        raise RefusedError(
            f"context {run.name!r} is {migration.state}: no side is closed that could have stragglers",
            unchanged="nothing was changed",
            next_step=f"carveout status {run.name}",
        )
    return migration.closed_side


def _document(context: str, side: Side, found: Seen) -> dict[str, Any]:
    rows = [{name: getattr(one, name) for name in Straggler.__dataclass_fields__} for one in found.stragglers]
    return {"version": 1, "context": context, "side": side, "since": found.since, "looks": found.looks,
            "stragglers": rows, "next_steps": []}  # fmt: skip


def _lines(side: Side, found: Seen) -> list[str]:
    since = f"{found.since:%Y-%m-%d %H:%M:%S %Z}" if found.since else "never"
    shown = [f"the {side} side is closed; looked at {found.looks} times since {since}"]
    for one in found.stragglers:
        who = f"{one.role} ({one.application or 'application not known'}, {one.address or 'address not known'})"
        about = f" {one.table}" if one.table else ""
        shown.append(f"  {who} {_SHOWN[one.kind]}{about}: {one.times} times, last {one.last_seen:%Y-%m-%d %H:%M:%S}")
    if not found.stragglers:
        shown.append("  nobody was seen; a reader between two looks leaves no trace")
    return shown
