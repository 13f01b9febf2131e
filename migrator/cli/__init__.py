"""The command line: thin over functions, so the Python API and the command line cannot differ."""

from __future__ import annotations

import sys

import click

from contexts.errors import CarveoutError


@click.group()
@click.version_option(package_name="carveout", message="%(version)s")
def cli() -> None:
    """Move the tables of one bounded context into a database of their own, live."""


def main() -> None:
    """Run the command line; a :class:`CarveoutError` becomes its lines on stderr and its exit code."""
    try:
        cli()
    except CarveoutError as error:
        click.echo("\n".join(error.lines()), err=True)
        sys.exit(error.exit_code)
