"""``doctor``: what state both databases are in, in plain words."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from contexts.errors import ExitCode
from migrator import doctor as diagnosing
from migrator.cli.common import context_argument, json_option, load, print_json, project_option, run_of


@click.command()
@context_argument
@project_option
@json_option
def doctor(context_name: str, project_dir: Path | None, as_json: bool) -> None:
    """Say what stands in both databases, what is half done and what leads on. Exit 5 where something needs you.

    Changes nothing, and answers when one of the two servers is down. Lines that need an action begin with ``!``.
    """
    context, both = load(project_dir, context_name)
    with run_of(context, both, "doctor") as run:
        found = diagnosing.diagnose(run)
    needs_action = any(line.startswith("!") for line in found)
    if as_json:
        print_json({"version": 1, "context": context.name, "needs_action": needs_action, "findings": found,
                    "next_steps": diagnosing.next_steps(found)})  # fmt: skip
    else:
        click.echo("\n".join(found))
    sys.exit(ExitCode.NEEDS_HUMAN if needs_action else ExitCode.DONE)
