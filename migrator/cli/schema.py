"""``carveout schema``: the tables of a service database."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from contexts import schema as schemas
from contexts.databases import Databases, databases
from contexts.errors import DifferencesFound
from contexts.loader import load_context, load_project
from contexts.model import Context
from migrator.cli.common import json_option, print_json, project_option


@click.group()
def schema() -> None:
    """Build a service database's tables and compare them with the shared side's."""


@schema.command()
@click.argument("context", metavar="CONTEXT")
@project_option
@click.option(
    "--to", "target", default="head", show_default=True, help="How far: tables, head, or the name of a revision."
)
@click.option("--dry-run", is_flag=True, help="Print the SQL instead of running it.")
def upgrade(context: str, project_dir: Path | None, target: str, dry_run: bool) -> None:
    """Bring the service database of CONTEXT to a revision.

    "tables" is the first revision: what the copy needs. The others are applied when the rows are there.
    """
    project = load_project(project_dir)
    declared = load_context(project, context)
    service = databases(project, declared).service
    if dry_run:
        click.echo(schemas.plan(service, declared, target), nl=False)
        return
    before = schemas.current(service, declared)
    after = schemas.upgrade(service, declared, target)
    shown = ", ".join(after)
    click.echo(f"{context}: already at {shown}" if before == after else f"{context}: now at {shown}")
    if before != after:
        _say_missing_grants(declared, databases(project, declared))


def _say_missing_grants(context: Context, both: Databases) -> None:
    """A table made anew has lost what was granted on the old one."""
    from migrator.grants.parity import lacks

    with both.shared.connect("schema") as shared, both.service.connect("schema") as service:
        missing = [lack for lack in lacks(shared, service, context) if lack.blocks]
    if missing:
        click.echo(f"{context.name}: a cutover waits for {len(missing)} rights: {missing[0]}", err=True)
        click.echo(f"next: carveout grants check {context.name}", err=True)


@schema.command()
@click.argument("context", metavar="CONTEXT")
@project_option
@json_option
def check(context: str, project_dir: Path | None, as_json: bool) -> None:
    """Compare the tables of CONTEXT on both sides; exit code 3 where they differ.

    Columns, types, defaults, keys, constraints, indexes and what else the scaffold carries; no row is read.
    """
    project = load_project(project_dir)
    declared = load_context(project, context)
    found = schemas.check(databases(project, declared), declared)
    steps = _next_steps(declared, found)
    if as_json:
        print_json(_document(declared, found, steps))
    else:
        _print(declared, found)
    if not found.passed:
        raise DifferencesFound(
            f"context {context!r}: the service database's schema is not the shared one's",
            unchanged="nothing was changed",
            next_step="; ".join(steps),
        )


def _next_steps(context: Context, found: schemas.Check) -> list[str]:
    if found.current != found.head:
        return [f"carveout schema upgrade {context.name}"]
    if not found.passed:
        return [
            f"write a revision in {context.folder / 'schema' / 'versions'}",
            f"carveout schema check {context.name}",
        ]
    return []


def _document(context: Context, found: schemas.Check, steps: list[str]) -> dict[str, Any]:
    return {"version": 1, "context": context.name, "passed": found.passed, **asdict(found), "next_steps": steps}


def _print(context: Context, found: schemas.Check) -> None:
    at = ", ".join(found.current) or "no revision"
    click.echo(f"{context.name}: service database at {at}, head is {', '.join(found.head)}")
    for difference in found.differences:
        click.echo(f"  {difference}")
    click.echo(f"{context.name}: {found.tables} tables compared, {len(found.differences)} differences")
