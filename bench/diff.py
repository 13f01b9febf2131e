"""The row diff: a table that is equal on both servers, and one with a few differing rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench import backlog, data, ours, peers
from bench.harness import BenchError, Comparison, Contestant, Details, Ends, Rig, compare
from contexts.catalog import read_tables
from contexts.model import Side, TableName
from validations import state
from validations.barrier import Barrier, Snapshot
from validations.diff.model import DiffOptions
from validations.diff.run import diff
from validations.state.store import Verifications

TABLE = TableName("public", "ledger_entry")
#: All columns but the key. The peer cannot compare jsonb, so the table has none here.
COLUMNS = ("wallet_id", "amount", "kind", "reference", "created_at")
_RELADIFF = """
import json, logging, sys, time
logging.disable(logging.CRITICAL)
from reladiff import connect_to_table, diff_tables
urls, table, columns = json.loads(sys.argv[1])
started = time.monotonic()
ours, theirs = (connect_to_table(url, table, ("id",)) for url in urls)
keys = {row[0] for _, row in diff_tables(ours, theirs, extra_columns=tuple(columns))}
print(json.dumps({"seconds": time.monotonic() - started, "differences": len(keys)}))
"""


def contest(bench: Rig, rows: int, differences: int, rounds: int) -> Comparison:
    """Compare ``rows`` of one table on both servers, of which so many differ."""
    for server in (bench.source, bench.target):
        url = bench.recreate(server)
        data.make(url, rows)
        with data.connect(url) as conn:
            conn.execute("ALTER TABLE public.ledger_entry DROP COLUMN details")
            conn.execute("VACUUM (FULL, ANALYZE) public.ledger_entry")
    state.install(ours.sides(bench.ends)[1])
    _differ(bench.ends, rows, differences)
    contestants = [
        Contestant("carveout", partial(carveout, expected=differences)),
        Contestant("reladiff 0.6", partial(reladiff, python=peers.reladiff(), expected=differences)),
    ]
    job = Comparison(f"diff, {differences} differences", rows, backlog.setting(bench, rows))
    return compare(bench, job, contestants, rounds)


def carveout(ends: Ends, expected: int) -> Details:
    """Our diff at one barrier. The tables stand still here, so any two snapshots are one."""
    shared, service = ours.sides(ends)
    with shared.connect("bench") as source, service.connect("bench") as target:
        tables = read_tables(source, [TABLE]), read_tables(target, [TABLE])
    store = Verifications(service, data.CONTEXT)
    result = diff(partial(_barrier, ends), *tables, DiffOptions(), store)
    return {"rows": result.rows, **_found(result.differences, expected)}


def reladiff(ends: Ends, python: str, expected: int) -> Details:
    """The peer with its defaults, by its own clock: the start of its interpreter does not count."""
    job = json.dumps([[ends.source, ends.target], TABLE.name, COLUMNS])
    told: Details = json.loads(peers.run([python, "-c", _RELADIFF, job]).splitlines()[-1])
    return {**told, **_found(int(told["differences"]), expected)}


def _found(differences: int, expected: int) -> Details:
    if differences != expected:
        raise BenchError(f"found {differences} differing keys instead of {expected}")
    return {"differences": differences}


def _differ(ends: Ends, rows: int, count: int) -> None:
    """Change ``count`` rows of the target, scattered over the table."""
    with data.connect(ends.target) as conn:
        for n in range(count):
            key = (2 * n + 1) * rows // (2 * count)
            conn.execute("UPDATE public.ledger_entry SET amount = amount + 0.01 WHERE id = %s", (key,))
        conn.execute("VACUUM public.ledger_entry")


@contextmanager
def _barrier(ends: Ends) -> Iterator[Barrier]:
    shared, service = ours.sides(ends)
    with (
        shared.connect("bench", autocommit=False) as source,
        service.connect("bench", autocommit=False) as target,
    ):
        names = [str(conn.execute("SELECT pg_export_snapshot()").fetchall()[0][0]) for conn in (source, target)]
        yield Barrier(1, Side.SHARED, Snapshot(shared, names[0]), Snapshot(service, names[1]))
