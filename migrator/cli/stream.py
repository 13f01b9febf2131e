"""``stream``: what an operator decides about a record that a stream through Kafka cannot apply."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from contexts.errors import ConfigError, ExitCode
from migrator import records
from migrator.cli.common import context_argument, dry_run_option, json_option, load, print_json, project_option, run_of
from migrator.control.locks import exclusive

_offset = click.option(
    "--offset", type=int, required=True, help="The record's offset, as carveout stream look says it."
)
_reason = click.option("--reason", required=True, help="Why; kept with the decision and shown each time it is met.")


@click.group()
def stream() -> None:
    """Look at a record that stopped a stream through Kafka, and decide about it."""


@stream.command()
@context_argument
@project_option
@json_option
@click.option("--show-values", is_flag=True, help="Print the record with the values of its row.")
def look(context_name: str, project_dir: Path | None, as_json: bool, show_values: bool) -> None:
    """Read on from the stored position without applying anything, and show where that stops. Exit 5 where it does."""
    context, both = load(project_dir, context_name)
    with run_of(context, both, "stream") as run:
        found = records.look(run)
    if as_json:
        print_json(_document(context.name, found, show_values=show_values))
    elif found is None:
        click.echo("the stream stops nowhere")
    else:
        click.echo(f"! {found.reason}\n  topic {found.topic}, offset {found.offset}")
        if show_values:
            click.echo(found.text)
    sys.exit(ExitCode.NEEDS_HUMAN if found else ExitCode.DONE)


@stream.command()
@context_argument
@project_option
@dry_run_option
@_offset
@_reason
def skip(context_name: str, project_dir: Path | None, dry_run: bool, offset: int, reason: str) -> None:
    """Leave out the one record at which the stream stops; the rest of its transaction is applied.

    The row that it was about may then differ: carveout verify names it, and no switch is possible before that.
    """
    _decide(context_name, project_dir, offset, None, reason, dry_run=dry_run)


@stream.command()
@context_argument
@project_option
@dry_run_option
@_offset
@_reason
@click.option(
    "--record", type=click.Path(path_type=Path, dir_okay=False), required=True,
    help="A file with the event that is read in its place, as Debezium writes it.",
)  # fmt: skip
def repair(context_name: str, project_dir: Path | None, dry_run: bool, offset: int, reason: str, record: Path) -> None:
    """Read another record in place of the one at which the stream stops: what it should have said.

    carveout stream look --show-values prints the one that is there. No switch is possible before a new verification.
    """
    try:
        text = record.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"--record {record}: {error.strerror}", unchanged="nothing was decided") from error
    _decide(context_name, project_dir, offset, text, reason, dry_run=dry_run)


@stream.command("list")
@context_argument
@project_option
@json_option
def list_(context_name: str, project_dir: Path | None, as_json: bool) -> None:
    """List what was decided about records of the present stream."""
    context, both = load(project_dir, context_name)
    with run_of(context, both, "stream") as run:
        found = records.decided(run)
    if as_json:
        shown = [
            {"offset": d.ordinal, "decision": _word(d.replacement), "reason": d.reason, "by": d.decided_by,
             "at": d.decided_at}
            for d in found
        ]  # fmt: skip
        print_json({"version": 1, "context": context.name, "decisions": shown, "next_steps": []})
        return
    for one in found:
        click.echo(
            f"offset {one.ordinal}: {_word(one.replacement)} by {one.decided_by} at {one.decided_at}: {one.reason}"
        )
    if not found:
        click.echo("nothing was left out or replaced")


def _word(replacement: bytes | None) -> str:
    return "left out" if replacement is None else "replaced"


def _decide(
    name: str, project_dir: Path | None, offset: int, replacement: bytes | None, reason: str, *, dry_run: bool
) -> None:
    if replacement == b"":
        raise ConfigError(
            "--record: the file is empty", next_step=f"to leave the record out: carveout stream skip {name}"
        )
    context, both = load(project_dir, name)
    with exclusive(both.shared, context.name, "driver"), run_of(context, both, "stream", dry_run=dry_run) as run:
        records.decide(run, offset, replacement, reason)
    if not dry_run:
        click.echo(f"decided; next: carveout worker {name}, then carveout verify {name}")


def _document(context: str, found: records.Stopped | None, *, show_values: bool) -> dict[str, object]:
    return {
        "version": 1,
        "context": context,
        "stops": found is not None,
        "topic": found.topic if found else None,
        "offset": found.offset if found else None,
        "reason": found.reason if found else None,
        "record": found.record if found and show_values else None,
        "next_steps": [f"carveout doctor {context}"] if found else [],
    }
