"""``python -m contexts.example``: the example's shared database, its load and the load's judge."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import click
import psycopg

from contexts.errors import CarveoutError, DifferencesFound
from contexts.example import gate, ledger
from contexts.example import oracle as judge
from contexts.example import seed as seeds
from contexts.example.load import Load

_URL = click.option("--url", envvar="CARVEOUT_SHARED_URL", required=True, show_envvar=True, help="Shared database.")
_LEDGER = click.option("--ledger", "path", type=click.Path(path_type=Path), required=True, help="The load's ledger.")


@click.group()
def main() -> None:
    """The prepaid wallet of the examples."""


@main.command()
@_URL
@click.option("--accounts", default=1000, show_default=True, type=click.IntRange(min=3))
@click.option("--payments", default=10_000, show_default=True, type=click.IntRange(min=0))
def create(url: str, accounts: int, payments: int) -> None:
    """Create and fill the shared database."""
    with psycopg.connect(url, autocommit=True) as conn:
        seeds.create(conn)
        seeds.seed(conn, accounts, payments)
    click.echo(f"created: {accounts} accounts, {payments} payments")


@main.command()
@_URL
@_LEDGER
@click.option(
    "--rate", default=200.0, show_default=True, type=click.FloatRange(0.1), help="Write transactions per second."
)
@click.option("--seconds", default=30.0, show_default=True)
def load(url: str, path: Path, rate: float, seconds: float) -> None:
    """Run the services for a while."""
    with Load(gate.always(url), ledger.Ledger(path), rate=rate) as running:
        threading.Event().wait(seconds)
    for outcome in ledger.Outcome:
        click.echo(f"{outcome}: {running.stats.total(outcome)}")


@main.command()
@_URL
@_LEDGER
def oracle(url: str, path: Path) -> None:
    """Judge a load that has ended; exit code 3 where anything is wrong."""
    with psycopg.connect(url, autocommit=True) as conn:
        verdict = judge.oracle(conn, path)
    click.echo(str(verdict))
    if not verdict.passed:
        raise DifferencesFound("the databases are not what the load's ledger says")


if __name__ == "__main__":
    try:
        main()
    except CarveoutError as error:
        click.echo("\n".join(error.lines()), err=True)
        sys.exit(error.exit_code)
