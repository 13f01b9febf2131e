"""``carveout check``: everything that would stop a migration, before anything changes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from migrator.cli.common import context_argument, print_json, project_option


@click.command()
@context_argument
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON (shape: docs/checks.md).")
@click.option("--only", multiple=True, metavar="NAME", help="Run only this check; may be given again.")
def check(context_name: str, project_dir: Path | None, as_json: bool, only: tuple[str, ...]) -> None:
    """Look for everything that would stop the migration of CONTEXT.

    Reads both databases and writes to neither. Ends with 0 where nothing forbids the start, and with 4 where a
    blocker does.
    """
    from contexts.loader import load_context, load_project
    from migrator.checks import run_checks

    project = load_project(project_dir)
    report = run_checks(project, load_context(project, context_name), only)
    if as_json:
        print_json(report.as_json())
    else:
        click.echo("\n".join(report.lines()))
    sys.exit(report.exit_code)
