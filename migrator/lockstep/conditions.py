"""What must hold before lockstep is entered; all that does not is named at once."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
from psycopg import sql

from contexts.databases import Connection
from contexts.errors import RefusedError
from contexts.model import Side, TableName
from migrator.lockstep import findings
from migrator.run import Run
from migrator.switch import conditions
from validations.history.tables import known, versioned


def require(run: Run) -> None:
    """Refuse to enter with every reason there is.

    :raises RefusedError: names them all.
    """
    reasons = [*_stream(run), *_two_phase(run), *_clean(run), *_watched(run), *_census(run)]
    if reasons:
        raise RefusedError(
            f"context {run.name!r} cannot enter lockstep: " + "; ".join(reasons),
            unchanged="the shared side is written as before",
            next_step=f"carveout status {run.name}",
        )


def _stream(run: Run) -> Iterable[str]:
    yield from conditions.worker_follows(run)


def _two_phase(run: Run) -> Iterable[str]:
    rows = run.executor.read(Side.SERVICE, sql.SQL("SELECT current_setting('max_prepared_transactions')::int"))
    if rows[0][0] == 0:
        yield "max_prepared_transactions is 0 on the service side (set it and restart that server)"


def _clean(run: Run) -> Iterable[str]:
    if count := findings.unrepaired(run.executor.connection(Side.SERVICE), run.name):
        yield f"{count} differences of an earlier audit are not repaired (carveout verify {run.name})"


def _watched(run: Run) -> Iterable[str]:
    """Versions cannot begin in lockstep: their baseline is of one position of the stream."""
    service = run.executor.connection(Side.SERVICE)
    for table in versioned(run.context):
        if not _has_baseline(service, run.name, table):
            yield f"the versions of {table} have not begun (start the worker again)"


def _has_baseline(service: Connection, context: str, table: TableName) -> bool:
    try:
        return known(service, context, table) is not None
    except psycopg.errors.UndefinedTable:
        return False


def _census(run: Run) -> Iterable[str]:
    """Whoever writes without the shim would be refused."""
    wanted = run.context.options.lockstep_census_s
    if not wanted:
        return
    rows = run.executor.read(
        Side.SHARED,
        sql.SQL(
            "SELECT mode, extract(epoch FROM clock_timestamp() - mode_since)::float8"
            " FROM carveout.route WHERE context = %s"
        ),
        (run.name,),
    )
    mode, seconds = rows[0] if rows else ("single", 0.0)
    if mode != "observe":
        yield f"nobody has looked for writers without the shim yet (carveout dual-write {run.name} observe)"
        return
    if seconds < wanted:
        yield f"writers are observed for {seconds:.0f} s only ({wanted:g} s are wanted)"
    for writer in findings.writers(run.executor.connection(Side.SERVICE), run.name):
        yield (
            f"role {writer.role} (application {writer.application or '-'}) writes {writer.table} without the shim,"
            f" {writer.transactions} transactions, the last at {writer.last_seen:%H:%M:%S}"
        )
