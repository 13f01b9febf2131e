"""``bootstrap-sql``: what an administrator runs once on each side."""

from __future__ import annotations

from pathlib import Path

import click

from contexts.databases import databases
from contexts.loader import load_context, load_contexts, load_project
from contexts.model import Side
from migrator import bootstrap
from migrator.cli.common import project_option


@click.command("bootstrap-sql")
@click.argument("context_name", metavar="[CONTEXT]", required=False)
@project_option
@click.option("--role", help="The mover's role (default: the user of each side's URL).")
@click.option("--owner", "owners", multiple=True, help="A role that owns tables on the shared side; once for each.")
@click.option("--side", type=click.Choice([str(side) for side in Side]), help="Only that side's statements.")
def bootstrap_sql(
    context_name: str | None, project_dir: Path | None, role: str | None, owners: tuple[str, ...], side: str | None
) -> None:
    """Print the roles and grants that Carveout needs on each side, for one CONTEXT or all.

    No server is asked, and no superuser is needed afterwards. Every statement has a comment that says what for; those
    marked optional may be left out. `carveout check` then tries every right.
    """
    project = load_project(project_dir)
    chosen = [load_context(project, context_name)] if context_name else list(load_contexts(project).values())
    for context in chosen:
        both = databases(project, context)
        for script in bootstrap.scripts(both, [context], owners, role):
            if side in (None, script.side):
                click.echo(script.text())
    if chosen and side is None:
        click.echo(bootstrap.notes(databases(project, chosen[0]), role))
