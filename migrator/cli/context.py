"""``carveout init`` and ``carveout context``: files of a project and of its contexts."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from contexts import scaffold
from contexts.databases import shared_database
from contexts.errors import ConfigError
from contexts.loader import load_project
from contexts.model import Grant, Privilege, TableName
from migrator.cli.common import project_option


@click.command()
@click.option("--contexts-dir", default="contexts", show_default=True, help="Folder of the contexts.")
def init(contexts_dir: str) -> None:
    """Write carveout.toml and the folder of the contexts here; never over a file that is there."""
    path = scaffold.init(Path.cwd(), contexts_dir)
    click.echo(f"wrote {path.name}")
    click.echo("next: export CARVEOUT_SHARED_URL=..., then: carveout context new NAME --tables schema.table,...")


@click.group()
def context() -> None:
    """Make contexts."""


@context.command()
@click.argument("name")
@click.option("--tables", required=True, help="Tables that move, as schema.table,...; partitions come with their root.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="ROLE=PRIVILEGE,...",
    help="What a role of the service may do on the tables, on whichever side is open; may be given again.",
)
@click.option(
    "--url-env",
    default="",
    metavar="VAR",
    help="Variable that will hold the URL of the service database (default: NAME_DATABASE_URL).",
)
@project_option
@click.option("--dry-run", is_flag=True, help="Print the files instead of writing them.")
def new(name: str, tables: str, roles: tuple[str, ...], url_env: str, project_dir: Path | None, dry_run: bool) -> None:
    """Write contexts/NAME/ from the shared database's catalogs, and list what belongs to the tables and is not carried.

    Reads the shared database only. The files are yours to edit; nothing is written over.
    """
    project = load_project(project_dir)
    wanted = _tables(tables)
    grants = [_grant(role) for role in roles]
    with shared_database(project).connect("scaffold") as conn:
        made = scaffold.new_context(conn, project, name, wanted, grants=grants, url_env=url_env, dry_run=dry_run)
    for path, text in made.files.items():
        shown = (made.folder / path).relative_to(project.folder)
        click.echo(f"--- {shown}\n{text}" if dry_run else f"wrote {shown}")
    if made.not_carried:
        click.echo("\nnot carried, decide about each:")
    for left in made.not_carried:
        click.echo(f"  {left}")
    if not dry_run:
        click.echo(f"\nnext: carveout schema upgrade {name}")


def _tables(text: str) -> list[TableName]:
    try:
        return [TableName.parse(part.strip()) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(f"--tables: {error}") from error


def _grant(text: str) -> Grant:
    role, _, listed = text.rpartition("=")
    privileges = tuple(part.strip().lower() for part in listed.split(","))
    if unknown := [part for part in privileges if part not in get_args(Privilege)]:
        known = ", ".join(get_args(Privilege))
        raise ConfigError(f"--role {text}: no privilege: {', '.join(unknown)} (there are {known})")
    if not role:
        raise ConfigError(f"--role {text}: write role=privilege,privilege")
    return Grant.model_validate({"role": role, "privileges": privileges})
