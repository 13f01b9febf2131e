"""How much the move copies. Free disk cannot be seen in SQL, so this says what must be free, and never that it is."""

from __future__ import annotations

from collections.abc import Iterator

from contexts import sqlfiles
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, info

_SQL = sqlfiles.load("migrator.checks.server", "disk.sql")


def check(environment: Environment) -> Iterator[Finding]:
    rows, indexes = environment.row(Side.SHARED, _SQL["sizes"], [environment.oids(Side.SHARED)])
    tables = len(environment.tables(Side.SHARED))
    message = (
        f"{tables} tables with {_size(rows)} of rows and {_size(indexes)} of indexes will be copied;"
        " free disk cannot be seen in SQL"
    )
    # The copy is written to WAL once and index builds sort in temporary files, so twice the tables is not too much.
    fix = f"see that about {_size(2 * (rows + indexes))} are free where the service server keeps data and WAL"
    yield info(Side.SERVICE, "disk", message, fix)
    fix = "watch the free disk of the shared server's WAL; carveout status shows what the slot keeps"
    yield info(
        Side.SHARED, "disk", "WAL is kept for as long as the stream stands; free disk cannot be seen in SQL", fix
    )


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"
