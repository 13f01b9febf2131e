"""``status``: where every context stands."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from contexts.databases import databases
from contexts.loader import load_context, load_contexts, load_project
from contexts.model import Context, Project
from migrator import status as reading
from migrator.cli.common import json_option, print_json, project_option, run_of

WATCH_S = 2.0


@click.command()
@click.argument("context_name", metavar="[CONTEXT]", required=False)
@project_option
@json_option
@click.option("--watch", is_flag=True, help=f"Show it again every {WATCH_S:g} s until interrupted.")
def status(context_name: str | None, project_dir: Path | None, as_json: bool, watch: bool) -> None:
    """Show state, worker, lag, proof and what to run next, of one CONTEXT or all."""
    project = load_project(project_dir)
    with suppress(KeyboardInterrupt):
        _show(project, context_name, as_json, watch)


def _show(project: Project, context_name: str | None, as_json: bool, watch: bool) -> None:
    while True:
        chosen = [load_context(project, context_name)] if context_name else list(load_contexts(project).values())
        found = [_read(project, context) for context in chosen]
        if watch and sys.stdout.isatty():
            click.clear()
        if as_json:
            print_json(found[0] if context_name else {"version": reading.VERSION, "contexts": found})
        else:
            click.echo("\n".join(line for one in found for line in reading.lines(one)))
        if not watch:
            return
        time.sleep(WATCH_S)


def _read(project: Project, context: Context) -> dict[str, Any]:
    with run_of(context, databases(project, context), "status") as run:
        return reading.status(run)
