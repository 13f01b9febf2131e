"""``rules``: what broke a stream rule, and the operator's decision to let it pass."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from contexts.errors import ExitCode
from migrator import rules as ruling
from migrator.cli.common import (
    context_argument,
    dry_run_option,
    json_option,
    load,
    print_json,
    project_option,
    run_of,
    set_up_logging,
)
from migrator.control.locks import exclusive


@click.group()
def rules() -> None:
    """Show and accept violations of stream rules."""


@rules.command("list")
@context_argument
@project_option
@json_option
def list_(context_name: str, project_dir: Path | None, as_json: bool) -> None:
    """List the rules of CONTEXT and every transaction that broke one. Exit 5 where the stream waits for a decision."""
    context, both = load(project_dir, context_name)
    found = ruling.read(both, context.name)
    if as_json:
        print_json(ruling.to_json(context, found))
    else:
        click.echo("\n".join(ruling.lines(context, found)))
    sys.exit(ExitCode.NEEDS_HUMAN if any(one.stops for one in found) else ExitCode.DONE)


@rules.command()
@context_argument
@click.argument("violation_id", metavar="ID")
@project_option
@dry_run_option
@click.option("--reason", default=None, help="Why; kept with the violation and shown in the report.")
def accept(context_name: str, violation_id: str, project_dir: Path | None, dry_run: bool, reason: str | None) -> None:
    """Let the transaction of violation ID (see ``rules list``) pass as it is; then start the worker again."""
    set_up_logging(verbose=True)
    context, both = load(project_dir, context_name)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "rules", dry_run=dry_run) as run:
        ruling.accept(run, violation_id, reason)
    if not dry_run:
        click.echo(f"accepted {violation_id}. Next: carveout worker {context.name}")
