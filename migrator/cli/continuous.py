"""``verify --continuous``: a line per round and per difference, until a signal comes."""

from __future__ import annotations

import datetime as dt
import signal
import threading

import click

from contexts.databases import Databases
from contexts.errors import ExitCode
from contexts.model import Context
from migrator import keys, verify
from migrator.continuous.recheck import Rechecked
from migrator.continuous.rounds import Rounds
from migrator.verify import Verification


def run_continuously(context: Context, both: Databases) -> int:
    """Verify until SIGTERM or SIGINT; returns the exit code."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: _stop(stop, received))
    rounds = Rounds(context, both, stop, on_round=_tell_round, on_recheck=_tell_recheck)
    rounds.run()
    return ExitCode.DIFFERENCES if rounds.last and not rounds.last.passed else ExitCode.DONE


def _stop(stop: threading.Event, number: int) -> None:
    """Stop after the running query; a second signal ends the process as usual."""
    signal.signal(number, signal.SIG_DFL)
    stop.set()


def _tell_round(found: Verification) -> None:
    _say(verify.lines(found)[0])


def _tell_recheck(seen: Rechecked) -> None:
    for table, difference in seen.differences:
        _say(f"changed and differs: {table} {difference.kind} key={keys.written(difference.key)}")


def _say(line: str) -> None:
    click.echo(f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ} {line}")
