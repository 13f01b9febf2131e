"""``connector``: the Debezium connector of a context whose stream goes through Kafka."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from contexts.errors import ExitCode, RefusedError
from migrator import connector as connectors
from migrator import contract as contracts
from migrator.cli.common import (
    context_argument,
    dry_run_option,
    json_option,
    load,
    print_json,
    project_option,
    run_of,
)
from migrator.control.locks import exclusive
from migrator.lifecycle import State
from migrator.steps import transport

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def connector() -> None:
    """Manage the Debezium connector of a context with source = "kafka"."""


@connector.command()
@context_argument
@project_option
def config(context_name: str, project_dir: Path | None) -> None:
    """Print the configuration of the present stream's connector as JSON, for Connect or a deployment of your own.

    A password is shown only where it is a reference to a config provider of Connect.
    """
    context, both = load(project_dir, context_name)
    with run_of(context, both, "connector") as run:
        print_json(connectors.shown_config(run))


@connector.command()
@context_argument
@project_option
@dry_run_option
def apply(context_name: str, project_dir: Path | None, dry_run: bool) -> None:
    """Give the present stream's connector its settings, or make it again where it was deleted.

    One that is made again goes on from the place that Connect has stored; where that is lost the command refuses,
    since changes could be missing. The worker makes the first one itself.
    """
    context, both = load(project_dir, context_name)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "connector", dry_run=dry_run) as run:
        connectors.apply(run)
    if not dry_run:
        click.echo(f"the connector of {context.name} runs")


@connector.command()
@context_argument
@project_option
@json_option
def status(context_name: str, project_dir: Path | None, as_json: bool) -> None:
    """Say how the present stream's connector does. Exit 5 where it needs you."""
    context, both = load(project_dir, context_name)
    with run_of(context, both, "connector") as run:
        found = connectors.described(run)
    steps = [f"carveout doctor {context.name}"] if found["findings"] else []
    if as_json:
        print_json({"version": 1, "context": context.name, **found, "next_steps": steps})
    else:
        click.echo(f"{found['connector']} on the {found['side']} side: {found['state'] or 'not there'}")
        click.echo(f"  topic {found['topic']}, slot {found['slot']}, tasks: {', '.join(found['tasks']) or 'none'}")
        for line in found["findings"]:
            click.echo(f"! {line}")
    sys.exit(ExitCode.NEEDS_HUMAN if found["findings"] else ExitCode.DONE)


@connector.command()
@context_argument
@project_option
@click.option("--format", "form", type=click.Choice(["json-schema", "avro"]), help="Only this one (default: both).")
@click.option("-o", "--output", type=_FOLDER, help="Write contract.json and a file for each schema into FOLDER.")
@click.option("--check", "checked", type=_FOLDER, help="Compare with the contract in FOLDER; write nothing.")
@click.option(
    "--require",
    type=click.Choice(["backward", "forward", "both"]),
    default="both",
    show_default=True,
    help="What --check insists on.",
)
def schema(
    context_name: str,
    project_dir: Path | None,
    form: str | None,
    output: Path | None,
    checked: Path | None,
    require: str,
) -> None:
    """Print or write the contract of the context's events: a schema for the keys and values of each table.

    It says what the connector with our settings sends for the tables as the open side has them now. Its version rises
    when anything of it changes. With --check: backward means that a consumer which knows the new contract can read
    events written under the old one; forward, that one which knows the old contract can read the new events. Exit 3
    where a change breaks what is required.
    """
    if output and checked:
        raise click.UsageError("-o writes, and --check only compares: give one of them")
    context, both = load(project_dir, context_name)
    with run_of(context, both, "connector") as run:
        found = contracts.present(run)
    formats = [form] if form else ["json-schema", "avro"]
    if checked:
        compared = contracts.against(found, checked)
        click.echo("\n".join(compared.lines()))
        compared.require(require)
    elif output:
        click.echo("\n".join(contracts.write(found, output, formats)))
    else:
        print_json(contracts.document(found, formats))


@connector.command()
@context_argument
@project_option
@dry_run_option
def delete(context_name: str, project_dir: Path | None, dry_run: bool) -> None:
    """Remove what earlier streams of the context left in Connect and Kafka: connectors with their offsets, topics.

    Refused while a migration of the context runs: abort and complete remove what is theirs.
    """
    context, both = load(project_dir, context_name)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "connector", dry_run=dry_run) as run:
        connectors.present(run)
        state = run.migration().state
        if state not in (State.PLANNED, State.ABORTED, State.COMPLETED):
            raise RefusedError(
                f"context {context.name!r} is {state}: its stream needs the connector",
                unchanged="nothing was changed",
                next_step=f"carveout status {context.name}",
            )
        transport.remove_all(run)
    if not dry_run:
        click.echo(f"no connector and no topic of {context.name} is left")
