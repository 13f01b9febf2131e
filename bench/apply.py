"""Catching up with a backlog of changes: many small transactions, or one large one."""

from __future__ import annotations

import time
from functools import partial

from psycopg import sql

from bench import backlog, data, ours
from bench.harness import Comparison, Contestant, Details, Ends, Rig, compare

SUBSCRIPTION = "bench_apply"
_POLL_S = 0.02


def small(bench: Rig, rows: int, transactions: int, rounds: int) -> Comparison:
    """Transactions of five rows each on a table of ``rows``."""
    backlog.prepare(bench, rows, "small_transactions", transactions=transactions)
    units = transactions * backlog.ROWS_PER_TRANSACTION
    job = Comparison("apply, small transactions", units, backlog.setting(bench, rows))
    return compare(bench, job, contestants(bench), rounds)


def large(bench: Rig, rows: int, changes: int, rounds: int) -> Comparison:
    """One transaction that changes ``changes`` rows, at most twice as many as there are."""
    changes = min(changes, 2 * rows)
    backlog.prepare(bench, rows, "one_large_transaction", large_rows=changes)
    job = Comparison("apply, one transaction", changes, backlog.setting(bench, rows))
    return compare(bench, job, contestants(bench), rounds)


def contestants(bench: Rig) -> list[Contestant]:
    """Ours, without and with stream rules; native replication as it comes and with the options that make it faster."""
    tuned = "binary = true, streaming = " + ("parallel" if min(bench.source.major, bench.target.major) >= 16 else "on")
    return [
        Contestant("carveout", ours.apply, ours.begin_stream, _finish_ours),
        Contestant("carveout, with rules", ours.apply_with_rules, ours.begin_stream, _finish_ours),
        Contestant("native", native, partial(_subscribe, options="streaming = off"), _finish_native),
        Contestant(f"native, {tuned}", native, partial(_subscribe, options=tuned), _finish_native),
    ]


def native(ends: Ends) -> Details:
    """Enable the subscription and wait until the last transaction has arrived; timed once it receives."""
    with data.connect(ends.target) as conn:
        begun = time.perf_counter()
        conn.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(SUBSCRIPTION)))
        while not data.receiving(conn):
            time.sleep(_POLL_S)
        opened = time.perf_counter()
        while not data.finished(conn):
            time.sleep(_POLL_S)
    return {"seconds": time.perf_counter() - opened, "startup_s": opened - begun}


def _subscribe(bench: Rig, options: str) -> None:
    backlog.begin(bench)
    create = (
        "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {}"
        " WITH (create_slot = false, slot_name = {}, enabled = false, copy_data = false, {})"
    )
    statement = sql.SQL(create).format(
        sql.Identifier(SUBSCRIPTION),
        sql.Literal(bench.ends.source),
        sql.Identifier(data.PUBLICATION),
        sql.Identifier(backlog.RUN_SLOT),
        _options(options),
    )
    with data.connect(bench.ends.target) as conn:
        conn.execute(statement)


def _options(text: str) -> sql.Composed:
    pairs = (pair.split(" = ") for pair in text.split(", "))
    return sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(k), sql.Literal(v)) for k, v in pairs)


def _finish_native(bench: Rig) -> None:
    data.require_equal(bench)
    with data.connect(bench.ends.target) as conn:  # drops the run's slot as well
        conn.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(SUBSCRIPTION)))


def _finish_ours(bench: Rig) -> None:
    data.require_equal(bench)
    backlog.end(bench)
