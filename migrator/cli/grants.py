"""``carveout grants``: roles and rights on the service side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from contexts.errors import RefusedError
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
from migrator.grants import run as granting
from migrator.grants.run import Checked


@click.group()
def grants() -> None:
    """Compare the rights of roles on both sides, and give what is missing."""


@grants.command()
@context_argument
@project_option
@json_option
def check(context_name: str, project_dir: Path | None, as_json: bool) -> None:
    """Name what roles lack on the service side, each with its statement; exit code 4 where a cutover must wait.

    Before a cutover each role is also tried there: a read and a write per table, rolled back.
    """
    context, both = load(project_dir, context_name)
    with run_of(context, both, "grants") as run:
        found = granting.check(run)
    if as_json:
        print_json(_document(context.name, found))
    else:
        click.echo("\n".join(_lines(found)))
    _require_all(context.name, found, "nothing was changed")


@grants.command("sql")
@context_argument
@project_option
def sql_(context_name: str, project_dir: Path | None) -> None:
    """Print the statements that give what is missing, in an order in which they run on the service database."""
    context, both = load(project_dir, context_name)
    with run_of(context, both, "grants") as run:
        found = granting.check(run, try_roles=False)
    click.echo("\n".join(lack.statement for lack in found.lacks), nl=bool(found.lacks))


@grants.command()
@context_argument
@project_option
@dry_run_option
def apply(context_name: str, project_dir: Path | None, dry_run: bool) -> None:
    """Give what is missing on the service side. Roles are not made: they need a password."""
    context, both = load(project_dir, context_name)
    with exclusive(both.shared, context.name, "grants"), run_of(context, both, "grants", dry_run=dry_run) as run:
        left = granting.apply(run)
    if dry_run:
        return
    click.echo("\n".join(_lines(left)))
    _require_all(context.name, left, "what could be granted was granted")


def _require_all(name: str, found: Checked, unchanged: str) -> None:
    if found.blocking:
        raise RefusedError(
            f"context {name!r}: a cutover waits for {len(found.blocking)} rights: {found.blocking[0]}",
            unchanged=unchanged,
            next_step=f"carveout grants apply {name}, or as an administrator: carveout grants sql {name}",
        )


def _document(name: str, found: Checked) -> dict[str, Any]:
    steps = [f"carveout grants apply {name}"] if found.lacks else []
    return {"version": 1, "context": name, "passed": not found.blocking, "roles": list(found.roles),
            "lacks": [asdict(lack) for lack in found.lacks],
            "refusals": [asdict(refusal) for refusal in found.refusals], "next_steps": steps}  # fmt: skip


def _lines(found: Checked) -> list[str]:
    shown = [f"{'!' if lack.blocks else ' '} {lack}" for lack in found.lacks]
    shown += [f"{'!' if refusal.was_tried else ' '} {refusal}" for refusal in found.refusals]
    asked = f"{len(found.roles)} roles were compared: {', '.join(found.roles) or 'none is known'}"
    return [asked, *shown] if shown else [asked, "nothing is missing"]
