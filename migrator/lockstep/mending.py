"""After the audit found a difference: the rows are copied again from the open side."""

from __future__ import annotations

from psycopg import sql

from contexts.model import Side, TableName
from migrator import keys
from migrator.repair import run as repairing
from migrator.repair.choose import Wanted
from migrator.run import Run

#: Keys given to one repair.
AT_ONCE = 1_000


def mend(run: Run) -> int:
    """Repair what the audit found, table by table; returns how many findings are settled. Hold the driver's lock.

    A repair that was broken off is ended first: it would keep every other one out. A finding without a key (a TRUNCATE
    past the shim) is left to ``verify`` and ``repair``.

    :raises CarveoutError: as for :func:`migrator.repair.run.repair`.
    """
    repairing.finish(run)
    settled = 0
    for table, found in _open(run).items():
        wanted = Wanted(table, tuple(sorted({keys.written(tuple(key)) for _, key in found})))
        if repairing.repair(run, wanted).differences:
            continue
        run.executor.write(
            Side.SERVICE,
            sql.SQL("UPDATE carveout.lockstep_difference SET repaired_at = clock_timestamp() WHERE id = ANY (%s)"),
            ([number for number, _ in found],),
        )
        settled += len(found)
    return settled


def _open(run: Run) -> dict[TableName, list[tuple[int, list[str]]]]:
    rows = run.executor.read(
        Side.SERVICE,
        sql.SQL(
            "SELECT table_schema, table_name, id, key FROM carveout.lockstep_difference"
            " WHERE context = %s AND repaired_at IS NULL AND key <> '{}' ORDER BY id LIMIT %s"
        ),
        (run.name, AT_ONCE),
    )
    found: dict[TableName, list[tuple[int, list[str]]]] = {}
    for schema, table, number, key in rows:
        found.setdefault(TableName(schema, table), []).append((number, key))
    return found
