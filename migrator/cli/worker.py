"""``worker``: copies and streams until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from contexts.databases import databases, server_error
from contexts.errors import CarveoutError, ExitCode
from contexts.loader import load_contexts, load_project
from contexts.model import Context, Project, TableName
from migrator import interrupts
from migrator.cli.common import project_option, set_up_logging

_log = logging.getLogger(__name__)


@click.command()
@click.argument("context_names", nargs=-1, metavar="[CONTEXT]...")
@project_option
@click.option("--log-json", is_flag=True, help="Log one JSON object a line to stderr.")
@click.option(
    "--spool",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder for transactions too large for memory (default: the system's temporary folder).",
)
@click.option(
    "--metrics", metavar="HOST:PORT", default=None, help="Serve Prometheus metrics there; without HOST on loopback."
)
@click.option(
    "--convert", metavar="TABLE", multiple=True, help="Read its rows from before a change of type as the new type."
)
def worker(
    context_names: tuple[str, ...],
    project_dir: Path | None,
    log_json: bool,
    spool: Path | None,
    metrics: str | None,
    convert: tuple[str, ...],
) -> None:
    """Copy and stream the CONTEXTs (default: all of the project) until stopped.

    SIGTERM or SIGINT ends it after the open batch, a second one at once; it goes on from there when it is started
    again. It ends by itself when the migration is over, and with 5 where the stream cannot go on without losing
    something.
    """
    set_up_logging(verbose=True, as_json=log_json)
    project = load_project(project_dir)
    known = load_contexts(project)
    chosen = [known[name] for name in context_names if name in known] or list(known.values())
    if unknown := [name for name in context_names if name not in known]:
        raise click.UsageError(f"no context {', '.join(unknown)} (there: {', '.join(known) or 'none'})")
    if metrics:
        from migrator.worker.metrics import serve

        serve(metrics, project, chosen)
    sys.exit(run_workers(project, chosen, spool, [TableName.parse(table) for table in convert]))


def run_workers(
    project: Project, contexts: list[Context], spool: Path | None, converted: Sequence[TableName] = ()
) -> int:
    """One thread a context, until a signal comes or all have ended; returns the exit code."""
    from cdc.worker.garbage import collect_rarely
    from migrator.worker.worker import ContextWorker

    collect_rarely()
    # One event a context: where one migration is over, the others go on.
    stops = {context.name: threading.Event() for context in contexts}
    _stop_on_signals(stops.values())
    codes: list[int] = []

    def work(context: Context) -> None:
        try:
            ContextWorker(context, databases(project, context), stops[context.name], spool, converted).run()
        except Exception as error:
            named = error if isinstance(error, CarveoutError) else server_error(error)
            if named:
                click.echo("\n".join(named.lines()), err=True)
            else:
                _log.exception("context %s: unexpected", context.name)
            codes.append(named.exit_code if named else ExitCode.ERROR)

    threads = [threading.Thread(target=work, args=(context,), name=context.name) for context in contexts]
    for thread in threads:
        thread.start()
    interrupts.join(threads)
    return max(codes, default=0)


def _stop_on_signals(stops: Iterable[threading.Event]) -> None:
    asked = False

    def on_signal(number: int, _frame: object) -> None:
        nonlocal asked
        if asked:  # what is uncommitted is still in the slot; threads that hang in a server would hold an exit up
            logging.shutdown()
            os._exit(128 + number)
        asked = True
        _log.info("%s: finishing the open batch", signal.Signals(number).name)
        for stop in stops:
            stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
