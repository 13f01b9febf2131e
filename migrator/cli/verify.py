"""``verify`` and ``differences``: the proof, and every key that it found different."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from contexts.errors import ConfigError, ExitCode
from migrator import verify as verifying
from migrator.cli.common import context_argument, json_option, load, print_json, project_option, set_up_logging
from migrator.cli.continuous import run_continuously
from migrator.cli.progress import SegmentProgress
from migrator.comparing import Manner, Told


@click.command()
@context_argument
@project_option
@json_option
@click.option("--show-values", is_flag=True, help="Store and show the values too, not only keys and columns.")
@click.option(
    "--sample",
    "sample_percent",
    type=click.FloatRange(0, 100, min_open=True),
    metavar="PERCENT",
    help="A quick look at about this part of the rows, chosen at random; never a proof.",
)
@click.option(
    "--time-limit",
    "time_limit_s",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Stop then, with 3; the next verification goes on with what is left.",
)
@click.option("--full-speed", is_flag=True, help="Do not rest while others are active on the open side.")
@click.option(
    "--continuous",
    is_flag=True,
    help="Go on round after round, and compare the keys changed last every minute, until stopped.",
)
@click.option("--repair", "then_repair", is_flag=True, help="Then repair what it found, as `carveout repair` does.")
def verify(
    context_name: str, project_dir: Path | None, as_json: bool, show_values: bool, sample_percent: float | None,
    time_limit_s: float | None, full_speed: bool, continuous: bool, then_repair: bool,
) -> None:  # fmt: skip
    """Compare every row and the schema, check invariants and suites of both sides under live writes.

    A worker must be running. Ends with 3 where something differs, does not hold or was not compared, and with 1 where
    an invariant or a suite could not be answered, or great-expectations is not installed for it. The result is stored;
    ``cutover`` and ``rollback`` ask for a green one that is fresh (option proof_max_age_s of the context).

    While others are active on the open side, it reads for a tenth of the time only (option verify_share), and not at
    all beyond throttle_active_sessions and throttle_probe_ms. Killed or stopped, it goes on when it is run again. A
    sample compares rows and schema only, is no proof, and ends with 0 where it saw no difference.

    With --continuous each whole round is stored as a proof; half of proof_max_age_s lies between the beginnings of two.
    It prints a line per round and per difference, waits where no worker runs, and ends with SIGTERM or SIGINT, then
    with 3 where the last whole round did not pass.
    """
    set_up_logging(verbose=False)
    if as_json and then_repair:
        raise ConfigError("--json prints one document: run verify, then repair", unchanged="nothing was compared")
    context, both = load(project_dir, context_name)
    if continuous:
        if as_json or show_values or sample_percent or time_limit_s or full_speed or then_repair:
            raise click.UsageError("--continuous goes with no other option but --project")
        sys.exit(run_continuously(context, both))
    manner = Manner(show_values, sample_percent, time_limit_s, full_speed)
    found = verifying.verify(context, both, manner, Told(SegmentProgress()))
    if as_json:
        print_json(verifying.to_json(found))
    else:
        click.echo("\n".join(verifying.lines(found)))
    if then_repair and found.diff.differences:
        sys.exit(_repair(project_dir, context_name))
    sys.exit(found.exit_code)


def _repair(project_dir: Path | None, context_name: str) -> int:
    from migrator.cli.repair import run_repair
    from migrator.repair.choose import Wanted

    return run_repair(project_dir, context_name, Wanted(), as_json=False, batch_keys=1_000, dry_run=False)


@click.command()
@context_argument
@project_option
@click.option(
    "--format",
    "shape",
    type=click.Choice(["text", "csv", "json", "jsonl"]),
    default="text",
    show_default=True,
    help="A line for people, CSV with a header, one JSON document (shape: docs/json.md), or one JSON object a line.",
)
@click.option("--show-values", is_flag=True, help="With the values, where `verify --show-values` has stored them.")
def differences(context_name: str, project_dir: Path | None, shape: str, show_values: bool) -> None:
    """List every key that the last verification found different, with the columns. Exit 3 where there is one.

    A key is written as one CSV record, as `carveout repair --key` takes it. The list may be of any length: it is
    written as it is read.
    """
    from migrator import differences as listing

    context, both = load(project_dir, context_name)
    found = listing.latest(both.service, context.name)
    if found is None:
        click.echo(f"{context.name}: nothing was verified yet. Next: carveout verify {context.name}", err=True)
        sys.exit(ExitCode.ERROR)
    count = listing.write(sys.stdout, found, shape, show_values=show_values)
    sys.exit(ExitCode.DIFFERENCES if count else ExitCode.DONE)
