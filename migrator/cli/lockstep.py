"""``dual-write`` and ``reads``: the phase in which applications write both sides."""

from __future__ import annotations

from pathlib import Path

import click

from migrator.cli.common import context_argument, dry_run_option, load, project_option, run_of, set_up_logging
from migrator.control.locks import exclusive
from migrator.interrupts import end_as_ctrl_c
from migrator.lockstep import conditions, phase
from migrator.lockstep import reads as read_share
from migrator.run import Run


@click.command("dual-write")
@context_argument
@click.argument("wanted", metavar="observe|on|off", type=click.Choice(["observe", "on", "off"]))
@project_option
@dry_run_option
def dual_write(context_name: str, wanted: str, project_dir: Path | None, dry_run: bool) -> None:
    """Write both sides in one transaction, from applications that use the shim.

    ``observe`` notes in the stream who writes without the shim; ``on`` is refused while there is one, and ends in a
    bounded pause like a switch; ``off`` goes back to the stream at once, whatever the service side does.
    """
    set_up_logging(verbose=False)
    end_as_ctrl_c()
    context, both = load(project_dir, context_name)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "dual-write", dry_run=dry_run) as run:
        said = _change(run, wanted)
    if not dry_run:
        click.echo(f"{context.name}: {said}")


def _change(run: Run, wanted: str) -> str:
    match wanted:
        case "observe":
            phase.observe(run, wanted=True)
            return f"writers without the shim are noted. Next: carveout dual-write {run.name} on"
        case "on":
            conditions.require(run)
            waited = phase.enter(run)
            return f"applications write both sides; writes waited for {waited:.0f} ms"
        case _:
            waited = phase.stop(run, "asked for")
            return f"the shared side is written, the stream carries it on; writes waited for {waited:.0f} ms"


@click.command()
@context_argument
@click.option("--service", "percent", metavar="PERCENT", required=True, help="Share that goes to the service side.")
@project_option
@dry_run_option
def reads(context_name: str, percent: str, project_dir: Path | None, dry_run: bool) -> None:
    """Send a share of the read-only transactions to the service side, in lockstep."""
    set_up_logging(verbose=False)
    context, both = load(project_dir, context_name)
    share = read_share.parse(percent)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "reads", dry_run=dry_run) as run:
        read_share.set_share(run, share)
    if not dry_run:
        click.echo(f"{context.name}: {share:g} % of the reads go to the service side")
