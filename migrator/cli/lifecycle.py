"""``prepare``, ``complete``, ``abort``, ``pause``, ``throttle``: the plain verbs of a migration."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from contexts.databases import Connection
from contexts.errors import ConfigError, RefusedError
from migrator.cli.common import context_argument, dry_run_option, load, project_option, run_of, set_up_logging
from migrator.control import intents, migrations
from migrator.control.intents import Kind
from migrator.control.locks import exclusive
from migrator.lifecycle import State, require_state
from migrator.steps import complete as completing
from migrator.steps import prepare as preparing


@click.command()
@context_argument
@project_option
@dry_run_option
@click.option("--skip-check", is_flag=True, help="Do not run the preflight checks first; they refuse where one blocks.")
def prepare(context_name: str, project_dir: Path | None, dry_run: bool, skip_check: bool) -> None:
    """Make schemas, grants, write locks, gate and publication; no row is copied yet.

    Applications notice nothing: the shared side stays open, locks are held for moments only. Run again, it goes on.
    """
    set_up_logging(verbose=True)
    context, both = load(project_dir, context_name)
    if not skip_check:
        _require_checks(project_dir, context_name)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "prepare", dry_run=dry_run) as run:
        preparing.prepare(run)
    if not dry_run:
        click.echo(f"{context.name} is prepared. Next: carveout worker {context.name}")


def _require_checks(project_dir: Path | None, context_name: str) -> None:
    from contexts.loader import load_context, load_project
    from migrator.checks import run_checks

    project = load_project(project_dir)
    report = run_checks(project, load_context(project, context_name))
    if blockers := report.blockers:
        raise RefusedError(
            f"context {context_name!r}: {len(blockers)} preflight checks block: "
            + "; ".join(f"{finding.object}: {finding.message}" for finding in blockers),
            unchanged="nothing was changed",
            next_step=f"carveout check {context_name}",
        )


@click.command()
@context_argument
@project_option
@dry_run_option
@click.option("--drop-tables", is_flag=True, help="Drop the closed tables of the shared database, without CASCADE.")
@click.option(
    "--foreign-tables",
    is_flag=True,
    help="Put foreign tables (postgres_fdw) in place of the closed tables, which move into a schema of their own.",
)
@click.option("--confirm", metavar="CONTEXT", help="The context's name again, in place of the question.")
def complete(
    context_name: str,
    project_dir: Path | None,
    dry_run: bool,
    drop_tables: bool,
    foreign_tables: bool,
    confirm: str | None,
) -> None:
    """End the migration: the service database keeps the context, the way back is removed.

    Names what it will drop, and asks for the context's name. Route and gate stay, so applications go on. With
    --foreign-tables writers left behind go on through the old names, within limits (docs/howto/foreign-tables.md).
    """
    set_up_logging(verbose=False)
    context, both = load(project_dir, context_name)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "complete", dry_run=dry_run) as run:
        if not dry_run:
            goes = ["the reverse stream with its slots and publications"]
            goes += completing.dropped(run) if drop_tables else []
            _confirm(context.name, "complete drops for ever: " + ", ".join(goes), confirm)
        completing.complete(run, drop_tables=drop_tables, foreign_tables=foreign_tables)
    if not dry_run:
        click.echo(f"{context.name} is completed.")


@click.command()
@context_argument
@project_option
@dry_run_option
@click.option("--confirm", metavar="CONTEXT", help="The context's name again, in place of the question.")
def abort(context_name: str, project_dir: Path | None, dry_run: bool, confirm: str | None) -> None:
    """Give up while the shared side is open: remove all that was made for the migration.

    The shared database stays as it was; the copies in the service database are emptied.
    """
    set_up_logging(verbose=False)
    context, both = load(project_dir, context_name)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "abort", dry_run=dry_run) as run:
        if not dry_run:
            _confirm(context.name, "abort empties the copies in the service database and drops the stream", confirm)
        preparing.abort(run)
    if not dry_run:
        click.echo(f"{context.name} is aborted; the shared database is as it was.")


def _confirm(name: str, what: str, given: str | None) -> None:
    """Ask for the context's name; without a terminal it must have been given."""
    if given is None:
        if not sys.stdin.isatty():
            raise ConfigError(
                f"not confirmed: {what}. Without a terminal the context's name must be given",
                unchanged="nothing was changed",
                next_step=f"add --confirm {name}",
            )
        given = click.prompt(f"{what}.\nType the context's name to go on", err=True)
    if given != name:
        raise RefusedError(f"{given!r} is not {name!r}", unchanged="nothing was changed")


@click.command()
@context_argument
@project_option
def pause(context_name: str, project_dir: Path | None) -> None:
    """Stop copying and applying until ``resume``.

    The replication slot keeps what comes meanwhile, so the WAL of the open side grows: watch its disk.
    """
    context, both = load(project_dir, context_name)
    with both.shared.connect("pause") as conn:
        _require_running(conn, context.name)
        intents.request(conn, context.name, Kind.PAUSE)
    click.echo(f"{context.name}: the worker pauses. Next: carveout resume {context.name}")


@click.command()
@context_argument
@click.argument("rows_per_s", type=click.FloatRange(min=0))
@project_option
def throttle(context_name: str, rows_per_s: float, project_dir: Path | None) -> None:
    """Apply at most ROWS_PER_S rows per second, for as long as it stands; 0 lifts the limit."""
    context, both = load(project_dir, context_name)
    with both.shared.connect("throttle") as conn:
        _require_running(conn, context.name)
        if rows_per_s:
            intents.request(conn, context.name, Kind.THROTTLE, {"rows_per_s": rows_per_s})
        else:
            intents.cancel(conn, context.name, Kind.THROTTLE)
    click.echo(f"{context.name}: " + (f"at most {rows_per_s:g} rows/s" if rows_per_s else "no limit"))


def _require_running(conn: Connection, name: str) -> None:
    """Not before ``prepare``, when nobody listens, nor during a switch, which would wait in vain."""
    state = migrations.read(conn, name).state
    require_state(name, state, State.PREPARED, State.COPYING, State.STREAMING, State.SWITCHED)
