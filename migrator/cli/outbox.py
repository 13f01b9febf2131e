"""``outbox``: events that wait to be published, and those that the sink refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from contexts.errors import ExitCode
from contexts.model import Side
from migrator import outbox as outboxes
from migrator.cli.common import context_argument, dry_run_option, json_option, load, print_json, project_option, run_of
from migrator.control.locks import exclusive


@click.group()
def outbox() -> None:
    """See what the outbox tables of a context have sent, and decide about events that the sink refuses."""


@outbox.command()
@context_argument
@project_option
@json_option
def status(context_name: str, project_dir: Path | None, as_json: bool) -> None:
    """Say how many events wait, and name those that are held. Exit 5 where there are any."""
    context, both = load(project_dir, context_name)
    with run_of(context, both, "outbox") as run:
        found = outboxes.described(run)
    if as_json:
        steps = [f"carveout outbox retry {context.name}"] if found["held"] else []
        print_json({"version": 1, "context": context.name, **found, "next_steps": steps})
    else:
        since = f", the oldest since {found['oldest']:%Y-%m-%d %H:%M:%S%z}" if found["oldest"] else ""
        click.echo(f"{found['waiting']} events wait{since}")
        for event in found["first_held"]:
            click.echo(f"! event {event['event_id']} for {event['topic']} is held: {event['reason']}")
    sys.exit(ExitCode.NEEDS_HUMAN if found["held"] else ExitCode.DONE)


@outbox.command()
@context_argument
@project_option
@click.option(
    "--side", type=click.Choice([side.value for side in Side]), default=Side.SERVICE.value,
    help="Whose tables it reads (default: service).",
)  # fmt: skip
def connector(context_name: str, project_dir: Path | None, side: str) -> None:
    """Print as JSON what publishes the same events after complete: a Debezium connector for each outbox table.

    Run the statements named "first" there, and start the connectors, before complete: then nothing falls between.
    """
    context, both = load(project_dir, context_name)
    with run_of(context, both, "outbox") as run:
        found = outboxes.successors(run, Side(side))
    steps = [f"carveout complete {context.name}"]
    print_json({"version": 1, "context": context.name, "connectors": found, "next_steps": steps})


@outbox.command()
@context_argument
@project_option
@dry_run_option
def retry(context_name: str, project_dir: Path | None, dry_run: bool) -> None:
    """Try every held event again: after a limit of the topic was raised, or a queue was made."""
    context, both = load(project_dir, context_name)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "outbox", dry_run=dry_run) as run:
        outboxes.retry(run)
    if not dry_run:
        click.echo("they are tried again")


@outbox.command()
@context_argument
@project_option
@dry_run_option
@click.option("--event", "event_id", required=True, help="Its id, as carveout outbox status says it.")
@click.option("--reason", required=True, help="Why; kept among the events of the migration.")
def skip(context_name: str, project_dir: Path | None, dry_run: bool, event_id: str, reason: str) -> None:
    """Give one held event up: it is never published, and the events behind it go on."""
    context, both = load(project_dir, context_name)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "outbox", dry_run=dry_run) as run:
        outboxes.skip(run, event_id, reason)
    if not dry_run:
        click.echo(f"event {event_id} is given up")
