"""What the commands share: loading, output, dry runs, logs."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from contexts.databases import Databases, databases
from contexts.loader import load_context, load_project
from contexts.model import Context
from migrator.control.locks import exclusive
from migrator.executor import Live, Recorded, Recording
from migrator.run import Run

_F = TypeVar("_F", bound=Callable[..., Any])
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def project_option(function: _F) -> _F:
    """``--project DIR``: where ``carveout.toml`` is."""
    return click.option(
        "--project",
        "project_dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=None,
        help="Folder of carveout.toml (default: here or above).",
    )(function)


def context_argument(function: _F) -> _F:
    """The context's name."""
    return click.argument("context_name", metavar="CONTEXT")(function)


def json_option(function: _F) -> _F:
    """``--json``: the documented machine-readable shape on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON (shape: docs/json.md).")(function)


def dry_run_option(function: _F) -> _F:
    """``--dry-run``: show every statement and its side, change nothing."""
    return click.option("--dry-run", is_flag=True, help="Print every statement and its side; change nothing.")(function)


def load(project_dir: Path | None, context_name: str) -> tuple[Context, Databases]:
    """The context and its databases.

    :raises ConfigError: see :mod:`contexts.loader`.
    """
    project = load_project(project_dir)
    context = load_context(project, context_name)
    return context, databases(project, context)


@contextmanager
def run_of(context: Context, both: Databases, purpose: str, *, dry_run: bool = False) -> Iterator[Run]:
    """A run of one command; after a dry run what it would do is printed."""
    executor: Live | Recording = Recording(both, purpose) if dry_run else Live(both, purpose)
    try:
        yield Run(context, both, executor)
        if isinstance(executor, Recording):
            print_recorded(executor.recorded, executor.predicted_ms())
    finally:
        executor.close()


@contextmanager
def driver_of(
    contexts: Sequence[tuple[Context, Databases]], purpose: str, *, dry_run: bool = False
) -> Iterator[list[Run]]:
    """Runs of one command on several contexts, each with its driver's lock, taken in the order of their names.

    :raises RefusedError: another driver is at work on one of them.
    """
    with ExitStack() as stack:
        runs = []
        for context, both in sorted(contexts, key=lambda one: one[0].name):
            stack.enter_context(exclusive(both.shared, context.name, "driver"))
            runs.append(stack.enter_context(run_of(context, both, purpose, dry_run=dry_run)))
        yield runs


def print_recorded(recorded: list[Recorded], predicted_ms: float) -> None:
    """The statements of a dry run, one a line, each with its side."""
    for entry in recorded:
        click.echo(f"{entry.side or 'here':8} {entry.text}")
    click.echo(f"predicted: ~{predicted_ms:.0f} ms and the time to wait for locks and the stream")
    click.echo("dry run: nothing was changed")


def print_json(value: dict[str, Any]) -> None:
    """One JSON document on stdout; times are ISO 8601 with their offset."""
    click.echo(json.dumps(value, indent=2, default=_as_text))


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)


def set_up_logging(*, verbose: bool, as_json: bool = False) -> None:
    """Logs go to stderr, as lines or as one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter(LOG_FORMAT))
    for library in ("alembic", "kafka"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler], force=True)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        shown = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            shown["exception"] = self.formatException(record.exc_info)
        return json.dumps(shown)
