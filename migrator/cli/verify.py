"""``verify`` and ``differences``: the proof, and every key that it found different."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import click

from contexts.errors import ExitCode
from migrator import verify as verifying
from migrator.cli.common import context_argument, json_option, load, print_json, project_option, set_up_logging
from validations.diff.model import Progress


@click.command()
@context_argument
@project_option
@json_option
@click.option("--show-values", is_flag=True, help="Store and show the values too, not only keys and columns.")
def verify(context_name: str, project_dir: Path | None, as_json: bool, show_values: bool) -> None:
    """Compare every row and the schema, check invariants and suites of both sides under live writes.

    A worker must be running. Ends with 3 where something differs, does not hold or was not compared, and with 1 where
    an invariant or a suite could not be answered, or great-expectations is not installed for it. The result is stored;
    ``cutover`` and ``rollback`` ask for a green one that is fresh (option proof_max_age_s of the context).
    """
    set_up_logging(verbose=False)
    context, both = load(project_dir, context_name)
    found = verifying.verify(context, both, show_values=show_values, progress=_progress())
    if as_json:
        print_json(verifying.to_json(found))
    else:
        click.echo("\n".join(verifying.lines(found)))
    sys.exit(found.exit_code)


def _progress() -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        if sys.stderr.isatty():
            click.echo(
                f"\r{progress.table}: {progress.segments_done}/{progress.segments} segments, {progress.rows} rows",
                err=True, nl=False,
            )  # fmt: skip

    return show


@click.command()
@context_argument
@project_option
@click.option(
    "--format",
    "shape",
    type=click.Choice(["text", "csv", "jsonl"]),
    default="text",
    show_default=True,
    help="A line for people, CSV (table, kind, key columns), or one JSON object a line.",
)
def differences(context_name: str, project_dir: Path | None, shape: str) -> None:
    """List every key that the last verification found different. Exit 3 where there is one."""
    from validations.state.store import Verifications

    context, both = load(project_dir, context_name)
    store = Verifications(both.service, context.name)
    latest = store.latest()
    if latest is None:
        click.echo(f"{context.name}: nothing was verified yet. Next: carveout verify {context.name}", err=True)
        sys.exit(ExitCode.ERROR)
    writer, count = csv.writer(sys.stdout), 0
    for table, difference in store.differences(latest.verification):
        row = [str(table), difference.kind, *difference.key]
        count += 1
        if shape == "csv":
            writer.writerow(row)
        elif shape == "jsonl":
            click.echo(json.dumps({"table": row[0], "kind": row[1], "key": difference.key,
                                   "columns": difference.columns}))  # fmt: skip
        else:
            click.echo(f"{row[0]} {difference.kind} key={','.join(difference.key)} {' '.join(difference.columns)}")
    sys.exit(ExitCode.DIFFERENCES if count else ExitCode.DONE)
