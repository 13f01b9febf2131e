"""``carveout check``: everything that would stop a migration, before anything changes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command()
@click.argument("context_name", metavar="CONTEXT")
@click.option(
    "--project",
    "project_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder of carveout.toml (default: here or above).",
)
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
    click.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False) if as_json else "\n".join(report.lines()))
    sys.exit(report.exit_code)
