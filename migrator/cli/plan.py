"""``plan``: what would happen, in which order, and about how long it takes."""

from __future__ import annotations

from pathlib import Path

import click

from migrator import plan as planning
from migrator.cli.common import context_argument, json_option, load, print_json, project_option, run_of


@click.command()
@context_argument
@project_option
@json_option
def plan(context_name: str, project_dir: Path | None, as_json: bool) -> None:
    """Show the tables of CONTEXT with sizes, predicted durations, and the commands in order. Changes nothing."""
    context, both = load(project_dir, context_name)
    with run_of(context, both, "plan", dry_run=False) as run:
        found = planning.plan(run)
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(planning.lines(found)))
