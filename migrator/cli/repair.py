"""``repair``: rows of the closed side that a verification found different, copied again."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from contexts.errors import ConfigError
from contexts.model import TableName
from migrator.cli.common import context_argument, json_option, load, print_json, project_option, run_of, set_up_logging
from migrator.control.locks import exclusive
from migrator.repair.choose import Wanted
from migrator.repair.log import Counts


@click.command()
@context_argument
@project_option
@json_option
@click.option("--table", metavar="SCHEMA.TABLE", help="Only the keys of this table.")
@click.option("--key", "keys", multiple=True, metavar="KEY",
              help="A key of --table as one CSV record, not those that were found; may be repeated.")  # fmt: skip
@click.option("--batch-keys", type=click.IntRange(1, 100_000), default=1_000, show_default=True,
              help="Keys that are deleted and copied in one transaction.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Compare the keys at a barrier and list what differs; change nothing.")
def repair(
    context_name: str, project_dir: Path | None, as_json: bool, table: str | None, keys: tuple[str, ...],
    batch_keys: int, dry_run: bool,
) -> None:  # fmt: skip
    """Copy differing rows again from the open to the closed side, under live writes; a worker must be running.

    Without --key it takes every key that the last verification found. Each key is compared at a barrier first: what is
    equal by then is left alone, what the open side does not have is deleted. Every key is logged in the service
    database (carveout.repair_key) with class, position, time and role. Killed, it goes on when it is run again. The
    keys are compared once more at the end: 3 where one still differs. A switch needs a new `carveout verify` then.
    """
    set_up_logging(verbose=False)
    wanted = Wanted(_table(table), keys)
    sys.exit(run_repair(project_dir, context_name, wanted, as_json=as_json, batch_keys=batch_keys, dry_run=dry_run))


def run_repair(
    project_dir: Path | None, context_name: str, wanted: Wanted, *, as_json: bool, batch_keys: int, dry_run: bool
) -> int:
    """Repair, print the result, and return the exit code."""
    from migrator.repair import run as repairing
    from migrator.repair import show

    context, both = load(project_dir, context_name)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "repair") as run:
        if dry_run:
            done = repairing.preview(run, wanted)
        else:
            done = repairing.repair(run, wanted, batch_keys=batch_keys, tell=_tell)
    if as_json:
        print_json(show.to_json(done))
    else:
        click.echo("\n".join(show.lines(done)))
    return show.exit_code(done)


def _table(given: str | None) -> TableName | None:
    try:
        return None if given is None else TableName.parse(given)
    except ValueError as error:
        raise ConfigError(f"--table: {error}", unchanged="nothing was changed") from None


def _tell(counts: Counts) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{counts.done}/{counts.keys} keys", err=True, nl=False)
