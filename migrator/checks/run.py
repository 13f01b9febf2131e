"""Runs the checks, all of them, whatever one of them finds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import psycopg

from contexts.errors import CarveoutError
from contexts.model import Context, Project, Side
from migrator.checks import registry
from migrator.checks.environment import Environment, opened
from migrator.checks.model import Finding, blocker
from migrator.checks.report import Report

_log = logging.getLogger(__name__)


def run_checks(project: Project, context: Context, only: Sequence[str] | None = None) -> Report:
    """Run all checks of a context, or only those named; nothing is written to either database.

    :raises ConfigError: ``only`` names no check, or a URL cannot be used.
    :raises DatabaseUnreachable: a server did not answer.
    :raises AccessDenied: a server refused the login.
    """
    names = registry.selected(only)
    with opened(project, context) as environment:
        findings = [finding for name in names for finding in run_one(name, environment)]
    return Report(context.name, names, tuple(findings))


def run_one(name: str, environment: Environment) -> Iterator[Finding]:
    """Run one check; where it fails, that is a blocker of its own, after what it had found by then."""
    _log.debug("check %s", name)
    try:
        for finding in registry.load(name)(environment):
            yield replace(finding, check=name)
    except (psycopg.Error, CarveoutError) as error:
        yield replace(_failed(error, environment), check=name)


def _failed(error: psycopg.Error | CarveoutError, environment: Environment) -> Finding:
    lost = [side for side in Side if environment.connection(side).closed]
    if lost:
        message, fix = "the check could not be made: the connection is lost", "start the server, then check again"
    elif isinstance(error, CarveoutError):
        message, fix = f"the check could not be made: {error.message}", error.next_step
    else:
        # Only the primary message: the detail of a database error may hold row values.
        reason = error.diag.message_primary or type(error).__name__
        message, fix = f"the check could not be made: {reason}", "give the role of the URL what is missing, check again"
    return blocker(lost[0] if lost else None, "check", message, fix)
