"""``cutover``, ``rollback`` and ``resume``."""

from __future__ import annotations

from pathlib import Path

import click

from contexts.model import Side
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
from migrator.control import intents
from migrator.control.intents import Kind
from migrator.control.locks import exclusive
from migrator.control.switches import Outcome
from migrator.interrupts import end_as_ctrl_c
from migrator.switch import procedure, switching
from migrator.switch.procedure import SwitchReport


@click.command()
@context_argument
@project_option
@dry_run_option
@json_option
def cutover(context_name: str, project_dir: Path | None, dry_run: bool, as_json: bool) -> None:
    """Open the service side: a moment without writes, and a way back that loses nothing."""
    _switch(context_name, project_dir, Side.SERVICE, dry_run=dry_run, as_json=as_json)


@click.command()
@context_argument
@project_option
@dry_run_option
@json_option
def rollback(context_name: str, project_dir: Path | None, dry_run: bool, as_json: bool) -> None:
    """Open the shared side again, with every write made since the cutover."""
    _switch(context_name, project_dir, Side.SHARED, dry_run=dry_run, as_json=as_json)


def _switch(context_name: str, project_dir: Path | None, to_side: Side, *, dry_run: bool, as_json: bool) -> None:
    set_up_logging(verbose=False)
    end_as_ctrl_c()
    context, both = load(project_dir, context_name)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "switch", dry_run=dry_run) as run:
        report = switching.switch(run, to_side)
        warnings = switching.warnings(run)
    if dry_run:
        return
    if as_json:
        shown = {**_shown(report), "warnings": warnings}
        print_json({"version": 1, "context": context.name, **shown, "next_steps": _next(report)})
    else:
        _print(report)
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)


def _print(report: SwitchReport) -> None:
    click.echo(f"{report.context}: the {report.to_side} side is open")
    click.echo(f"writes were blocked for {report.write_block_ms:.0f} ms:")
    for part, milliseconds in report.breakdown_ms.items():
        click.echo(f"  {part:10} {milliseconds:8.1f} ms")
    if report.facts:
        click.echo(f"{report.facts['rechecked_keys']} of {report.facts['changed_keys']} last changed keys re-checked")
        for missed in report.facts["not_rechecked"]:
            keys = f"{missed['keys']} keys" if missed["keys"] else "all"
            click.echo(f"  not re-checked: {keys} of {missed['table']}: {missed['why']}")
    click.echo("next: " + _next(report)[0])


def _shown(report: SwitchReport) -> dict[str, object]:
    return {
        "from": report.from_side,
        "to": report.to_side,
        "write_block_ms": report.write_block_ms,
        "breakdown_ms": report.breakdown_ms,
        **report.facts,
    }


def _next(report: SwitchReport) -> list[str]:
    if report.to_side is Side.SERVICE:
        return [
            f"carveout verify {report.context}",
            f"carveout rollback {report.context}",
            f"carveout complete {report.context}",
        ]
    return [f"carveout verify {report.context}", f"carveout cutover {report.context}"]


@click.command()
@context_argument
@project_option
def resume(context_name: str, project_dir: Path | None) -> None:
    """Let a paused worker go on, and end a half-done switch: wholly undone, or wholly done."""
    set_up_logging(verbose=False)
    context, both = load(project_dir, context_name)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "resume") as run:
        paused = intents.cancel(run.control, context.name, Kind.PAUSE)
        outcome = procedure.resume(run)
        said = {
            None: f"{context.name}: no switch was under way",
            Outcome.UNDONE: f"{context.name}: the switch was undone; the {run.migration().open_side} side is open",
            Outcome.FINISHED: f"{context.name}: the switch was finished; the {run.migration().open_side} side is open",
        }
    click.echo(said.get(outcome, ""))
    if paused:
        click.echo(f"{context.name}: the worker goes on")
