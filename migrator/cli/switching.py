"""``cutover``, ``rollback`` and ``resume``."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from contexts.errors import ConfigError
from contexts.model import Side
from migrator.cli.common import (
    context_argument,
    driver_of,
    dry_run_option,
    json_option,
    load,
    print_json,
    project_option,
    set_up_logging,
)
from migrator.control import intents, switches
from migrator.control.intents import Kind
from migrator.control.switches import Outcome
from migrator.interrupts import end_as_ctrl_c
from migrator.switch import settle, switching, waiting
from migrator.switch.moves import SwitchReport, Terms
from migrator.switch.waiting import Moment

F = TypeVar("F", bound=Callable[..., Any])


def _moment_of(_context: click.Context, _parameter: click.Parameter, given: str | None) -> dt.datetime | None:
    """``--at``: a time of day is today's, or tomorrow's where that has passed; without an offset it is local."""
    if given is None:
        return None
    now = dt.datetime.now().astimezone()
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", given):
            at = dt.datetime.combine(now.date(), dt.time.fromisoformat(given.rjust(5, "0"))).astimezone()
            return at if at > now else at + dt.timedelta(days=1)
        at = dt.datetime.fromisoformat(given).astimezone()
    except ValueError as error:
        raise click.BadParameter(f"{given!r} is no time: write HH:MM or 2030-01-31T04:00+01:00") from error
    if at <= now:
        raise click.BadParameter(f"{given} has passed")
    return at


def _switch_options(function: F) -> F:
    """What ``cutover`` and ``rollback`` share."""
    for decorate in (
        click.option("--at", "at", metavar="TIME", callback=_moment_of, help="Begin then: HH:MM, or an ISO 8601 time."),
        click.option("--when-quiet", is_flag=True, help="Begin when the lag is small and no transaction is long."),
        click.option("--hold", is_flag=True, help="Begin at the word of an operator: carveout proceed."),
        click.option(
            "--retries",
            type=click.IntRange(min=0),
            default=0,
            help="Try so often again, with back-off, what went back.",
        ),
        click.option("--terminate-blockers", is_flag=True, help="End the sessions that stand in the way."),
        click.option("--together", is_flag=True, help="Switch all named contexts in one step, or none of them."),
        json_option,
        dry_run_option,
        project_option,
        click.argument("context_names", metavar="CONTEXT...", nargs=-1, required=True),
    ):
        function = decorate(function)
    return function


@click.command()
@_switch_options
def cutover(context_names: tuple[str, ...], project_dir: Path | None, **options: Any) -> None:
    """Open the service side: a moment without writes, and a way back that loses nothing."""
    _switch(context_names, project_dir, Side.SERVICE, **options)


@click.command()
@_switch_options
def rollback(context_names: tuple[str, ...], project_dir: Path | None, **options: Any) -> None:
    """Open the shared side again, with every write made since the cutover."""
    _switch(context_names, project_dir, Side.SHARED, **options)


def _switch(
    names: tuple[str, ...], project_dir: Path | None, to_side: Side, *,
    dry_run: bool, as_json: bool, together: bool, terminate_blockers: bool, **moment: Any,
) -> None:  # fmt: skip
    set_up_logging(verbose=False)
    end_as_ctrl_c()
    if len(names) > 1 and not together:
        raise ConfigError(
            "several contexts switch in one step only",
            unchanged="nothing was changed",
            next_step="add --together, or switch one after the other",
        )
    contexts = [load(project_dir, name) for name in names]
    with driver_of(contexts, "switch", dry_run=dry_run) as runs:
        switching.require_states(runs, to_side)
        report = waiting.at_moment(
            runs, to_side, Moment() if dry_run else Moment(**moment),
            lambda: switching.switch_together(runs, to_side, Terms(terminate_blockers=terminate_blockers)),
        )  # fmt: skip
        warnings = [warning for run in runs for warning in switching.warnings(run)]
    if dry_run:
        return
    if as_json:
        shown = {**_shown(report), "warnings": warnings}
        print_json({"version": 1, "context": report.contexts[0], **shown, "next_steps": _next(report)})
    else:
        _print(report)
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)


def _print(report: SwitchReport) -> None:
    click.echo(f"{', '.join(report.contexts)}: the {report.to_side} side is open")
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
        "contexts": list(report.contexts),
        "from": report.from_side,
        "to": report.to_side,
        "write_block_ms": report.write_block_ms,
        "breakdown_ms": report.breakdown_ms,
        **report.facts,
    }


def _next(report: SwitchReport) -> list[str]:
    verify = [f"carveout verify {name}" for name in report.contexts]
    names = " ".join(report.contexts) + (" --together" if len(report.contexts) > 1 else "")
    if report.to_side is Side.SERVICE:
        return [*verify, f"carveout rollback {names}", *(f"carveout complete {name}" for name in report.contexts)]
    return [*verify, f"carveout cutover {names}"]


@click.command()
@context_argument
@project_option
def resume(context_name: str, project_dir: Path | None) -> None:
    """Let a paused worker go on, and end a half-done switch: wholly undone, or wholly done.

    Contexts that were switching together are ended together.
    """
    set_up_logging(verbose=False)
    context, both = load(project_dir, context_name)
    with both.shared.connect("resume") as conn:
        names = switches.members(conn, context.name)
    contexts = [(context, both) if name == context.name else load(project_dir, name) for name in names]
    with driver_of(contexts, "resume") as runs:
        paused = [run.name for run in runs if intents.cancel(run.control, run.name, Kind.PAUSE)]
        outcome = settle.resume(runs)
        open_side = runs[0].migration().open_side
    shown = ", ".join(names)
    said = {
        None: f"{shown}: no switch was under way",
        Outcome.UNDONE: f"{shown}: the switch was undone; the {open_side} side is open",
        Outcome.FINISHED: f"{shown}: the switch was finished; the {open_side} side is open",
    }
    click.echo(said.get(outcome, ""))
    for name in paused:
        click.echo(f"{name}: the worker goes on")


@click.command()
@context_argument
@project_option
def proceed(context_name: str, project_dir: Path | None) -> None:
    """Let a switch that is held (``cutover --hold``) begin."""
    _answer(context_name, project_dir, proceed=True)


@click.command()
@context_argument
@project_option
def cancel(context_name: str, project_dir: Path | None) -> None:
    """Withdraw a switch that waits for its moment; one that has begun goes on."""
    _answer(context_name, project_dir, proceed=False)


def _answer(context_name: str, project_dir: Path | None, *, proceed: bool) -> None:
    context, both = load(project_dir, context_name)
    with both.shared.connect("answer") as conn:
        waited = waiting.answer(conn, context.name, proceed=proceed)
    click.echo(f"{context.name}: the switch, which {waited}, {'goes on' if proceed else 'is cancelled'}")
