"""The command line: thin over functions, so the Python API and the command line cannot differ.

Commands are imported when they are run: ``carveout --help`` stays fast, and a broken extra breaks only its command.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import click

from contexts.errors import CarveoutError

#: Command name -> (module, attribute, one-line help), in the order of a migration.
COMMANDS: Mapping[str, tuple[str, str, str]] = {
    "init": ("migrator.cli.context", "init", "Write carveout.toml."),
    "context": ("migrator.cli.context", "context", "Make contexts."),
    "bootstrap-sql": ("migrator.cli.bootstrap", "bootstrap_sql", "Print the roles and grants that Carveout needs."),
    "schema": ("migrator.cli.schema", "schema", "Build a service database's tables and compare them."),
    "check": ("migrator.cli.check", "check", "Look for everything that would stop a migration."),
    "grants": ("migrator.cli.grants", "grants", "Compare the rights of roles on both sides."),
    "plan": ("migrator.cli.plan", "plan", "Show what will move, in which order, and about how long it takes."),
    "prepare": ("migrator.cli.lifecycle", "prepare", "Make schemas, write locks, gate and publication."),
    "worker": ("migrator.cli.worker", "worker", "Copy and stream until stopped."),
    "status": ("migrator.cli.status", "status", "Show state, worker, lag, proof and what to run next."),
    "verify": ("migrator.cli.verify", "verify", "Prove that both sides hold the same rows, under live writes."),
    "differences": ("migrator.cli.verify", "differences", "List the keys that the last verification found."),
    "rules": ("migrator.cli.rules", "rules", "Show and accept violations of stream rules."),
    "repair": ("migrator.cli.repair", "repair", "Copy differing rows again to the closed side."),
    "suites": ("migrator.cli.suites", "suites", "Run the context's great-expectations suites."),
    "stragglers": ("migrator.cli.stragglers", "stragglers", "List who still uses the closed tables."),
    "report": ("migrator.cli.report", "report", "Write the proof and the history as one HTML file."),
    "dual-write": (
        "migrator.cli.lockstep",
        "dual_write",
        "Let applications write both sides in one transaction.",
    ),
    "reads": ("migrator.cli.lockstep", "reads", "Send a share of the reads to the service side."),
    "cutover": ("migrator.cli.switching", "cutover", "Open the service side."),
    "rollback": ("migrator.cli.switching", "rollback", "Open the shared side again, with all writes."),
    "proceed": ("migrator.cli.switching", "proceed", "Let a switch that is held begin."),
    "cancel": ("migrator.cli.switching", "cancel", "Withdraw a switch that waits."),
    "complete": ("migrator.cli.lifecycle", "complete", "End the migration and remove the way back."),
    "abort": ("migrator.cli.lifecycle", "abort", "Give up while the shared side is open."),
    "pause": ("migrator.cli.lifecycle", "pause", "Stop copying and applying until resume."),
    "resume": ("migrator.cli.switching", "resume", "Go on after a pause, or end a half-done switch."),
    "throttle": ("migrator.cli.lifecycle", "throttle", "Bound the rate of the worker."),
    "connector": ("migrator.cli.connector", "connector", "Manage the Debezium connector of a context."),
    "stream": ("migrator.cli.stream", "stream", "Decide about a record that stopped a stream through Kafka."),
    "outbox": ("migrator.cli.outbox", "outbox", "See and decide about the events of outbox tables."),
    "dev": ("migrator.cli.dev", "dev", "Start throw-away services for development."),
    "demo": ("migrator.cli.demo", "demo", "Play the whole move on two embedded servers, under load."),
    "doctor": ("migrator.cli.doctor", "doctor", "Say what stands in both databases and what leads on."),
}


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported at their first use."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All command names, in lifecycle order."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command."""
        if cmd_name not in self._lazy:
            return None
        module, attribute, _ = self._lazy[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, _, short) in self._lazy.items()])


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="carveout", message="%(version)s")
def cli() -> None:
    """Move the tables of one bounded context into a database of their own, live."""


def main() -> None:
    """Run the command line; a :class:`CarveoutError` becomes its lines on stderr and its exit code."""
    try:
        cli()
    except Exception as error:
        from contexts.databases import server_error

        named = error if isinstance(error, CarveoutError) else server_error(error)
        if named is None:
            raise
        click.echo("\n".join(named.lines()), err=True)
        sys.exit(named.exit_code)
