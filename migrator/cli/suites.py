"""``suites``: expectations about the tables, run on either side or both."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from contexts.model import Side
from migrator import suites as running
from migrator.cli.common import context_argument, json_option, load, print_json, project_option, set_up_logging


@click.group()
def suites() -> None:
    """Run the context's great-expectations suites."""


@suites.command("run")
@context_argument
@project_option
@json_option
@click.option(
    "--side",
    type=click.Choice([side.value for side in Side]),
    help="Ask this side alone, as it is now; nothing is stored.",
)
@click.option("--show-values", is_flag=True, help="Store and show some of the unexpected values too.")
@click.option(
    "--data-docs",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write great-expectations' own pages there; shown in a browser, they load their styles from the web.",
)
def run(
    context_name: str, project_dir: Path | None, as_json: bool, side: str | None, show_values: bool, folder: Path | None
) -> None:
    """Run the suites of CONTEXT on both sides at one moment of the stream, or on one side alone.

    On both sides a worker must be running, and the results take the place of those of the last verification. Without
    --side this is the part of ``verify`` that runs the suites. Ends with 3 where an expectation is not met, and with 1
    where one could not be answered.
    """
    set_up_logging(verbose=False)
    context, both = load(project_dir, context_name)
    found = running.run(context, both, Side(side) if side else None, show_values=show_values, data_docs=folder)
    if as_json:
        print_json(running.run_json(context, found))
    else:
        click.echo("\n".join([f"{context.name}: {'PASSED' if found.passed else 'NOT PASSED'}",
                              *running.lines(context, found)]))  # fmt: skip
    if folder:
        click.echo(f"wrote {folder / 'index.html'}", err=True)
    sys.exit(found.exit_code)
