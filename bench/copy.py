"""The initial copy: rows, primary keys and the secondary index, from one server to an empty database on the other."""

from __future__ import annotations

import tempfile
import time
from functools import partial

from psycopg import sql

from bench import data, ours, peers
from bench.harness import Comparison, Contestant, Details, Ends, Rig, compare

_POLL_S = 0.02
SUBSCRIPTION = "bench_copy"


def contest(bench: Rig, rows: int, rounds: int, jobs: int) -> Comparison:
    """Copy ``rows`` ledger entries and their wallets with every mover there is."""
    bench.recreate(bench.source)
    data.make(bench.ends.source, rows)
    contestants = [
        Contestant("carveout", partial(ours.copy, jobs=jobs), ours.begin_copy, ours.end_copy),
        Contestant("native initial sync", native, _with_keys, _finish_native),
    ]
    if peers.pgcopydb():
        run = partial(pgcopydb, major=bench.source.major, jobs=jobs)
        contestants.append(Contestant("pgcopydb 0.10", run, _empty, data.require_equal))
    setting = f"PostgreSQL {bench.source.major} to {bench.target.major}, {jobs} jobs"
    return compare(bench, Comparison("copy", rows, setting), contestants, rounds)


def native(ends: Ends) -> Details:
    """``CREATE SUBSCRIPTION`` with the initial copy until every table is ready, then the secondary index.

    Tables are copied at the same time, each by one worker; the primary key must be there before.
    """
    with data.connect(ends.target) as conn:
        create = sql.SQL("CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {}")
        names = sql.Identifier(SUBSCRIPTION), sql.Literal(ends.source), sql.Identifier(data.PUBLICATION)
        conn.execute(create.format(*names))
        unready = "SELECT 1 FROM pg_catalog.pg_subscription_rel WHERE srsubstate <> 'r'"
        while conn.execute(unready).fetchone():
            time.sleep(_POLL_S)
        data.execute(conn, "indexes")
    return {}


def pgcopydb(ends: Ends, major: int, jobs: int) -> Details:
    """``pgcopydb copy db``: schema, rows, then keys and indexes, each with so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["pgcopydb", "copy", "db", "--source", ends.source, "--target", ends.target, "--dir", folder]
        split = ["--split-tables-larger-than", "64MB"] if jobs > 1 else []
        command += ["--table-jobs", str(jobs), "--index-jobs", str(jobs), "--no-owner", "--no-acl", "--skip-extensions"]
        peers.run([*command, *split], peers.server_programs(major))
    return {}


def _empty(bench: Rig) -> None:
    bench.recreate(bench.target)


def _with_keys(bench: Rig) -> None:
    bench.recreate(bench.target)
    with data.connect(bench.ends.target) as conn:
        data.execute(conn, "tables", "keys")


def _finish_native(bench: Rig) -> None:
    data.require_equal(bench)
    with data.connect(bench.ends.target) as conn:
        conn.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(SUBSCRIPTION)))
