"""Catching up with a backlog of changes: many small transactions, or one large one.

The backlog is written once. A slot from before it is copied for each run, and the target begins as a copy of the
state at that slot, so every run applies the very same changes.
"""

from __future__ import annotations

import time
from functools import partial

import psycopg
from psycopg import sql

from bench import data
from bench.harness import Comparison, Contestant, Details, Ends, Rig, compare

ROWS_PER_TRANSACTION = 5
BASE_SLOT, RUN_SLOT = "bench_base", "bench_run"
SUBSCRIPTION = "bench_apply"
_BASE = "service_base"
_POLL_S = 0.02


def small(bench: Rig, rows: int, transactions: int, rounds: int) -> Comparison:
    """Transactions of five rows each on a table of ``rows``."""
    prepare(bench, rows, "small_transactions", transactions=transactions)
    job = Comparison("apply, small transactions", transactions * ROWS_PER_TRANSACTION, backlog_setting(bench, rows))
    return compare(bench, job, contestants(bench), rounds)


def large(bench: Rig, rows: int, changes: int, rounds: int) -> Comparison:
    """One transaction that changes ``changes`` rows, at most twice as many as there are."""
    changes = min(changes, 2 * rows)
    prepare(bench, rows, "one_large_transaction", large_rows=changes)
    job = Comparison("apply, one transaction", changes, backlog_setting(bench, rows))
    return compare(bench, job, contestants(bench), rounds)


def contestants(bench: Rig) -> list[Contestant]:
    """Native replication as it comes, and with the options that make it faster."""
    tuned = "binary = true, streaming = " + ("parallel" if min(bench.source.major, bench.target.major) >= 16 else "on")
    return [
        Contestant("native", native, partial(_subscribe, options="streaming = off"), _finish_native),
        Contestant(f"native, {tuned}", native, partial(_subscribe, options=tuned), _finish_native),
    ]


def prepare(bench: Rig, rows: int, backlog: str, **settings: int) -> None:
    """Both servers in the same state, a slot at that state, then the backlog."""
    bench.recreate(bench.source)
    data.make(bench.ends.source, rows)
    with psycopg.connect(bench.target.url(), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_BASE)))
    data.make(bench.target.url(_BASE), rows)
    with data.connect(bench.ends.source, **settings) as conn:
        conn.execute("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", (BASE_SLOT,))
        data.execute(conn, backlog, "finish")


def begin(bench: Rig) -> None:
    """The state before the backlog: target tables as they were, and a slot that has not been read."""
    bench.recreate(bench.target, _BASE)
    with data.connect(bench.ends.source) as conn:
        conn.execute("SELECT pg_catalog.pg_copy_logical_replication_slot(%s, %s)", (BASE_SLOT, RUN_SLOT))


def native(ends: Ends) -> Details:
    """Enable the subscription and wait until the last transaction has arrived."""
    with data.connect(ends.target) as conn:
        conn.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(SUBSCRIPTION)))
        while not data.finished(conn):
            time.sleep(_POLL_S)
    return {}


def _subscribe(bench: Rig, options: str) -> None:
    begin(bench)
    create = (
        "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {}"
        " WITH (create_slot = false, slot_name = {}, enabled = false, copy_data = false, {})"
    )
    statement = sql.SQL(create).format(
        sql.Identifier(SUBSCRIPTION),
        sql.Literal(bench.ends.source),
        sql.Identifier(data.PUBLICATION),
        sql.Identifier(RUN_SLOT),
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


def drop_slot(bench: Rig) -> None:
    """Drop the run's slot."""
    with data.connect(bench.ends.source) as conn:
        conn.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", (RUN_SLOT,))


def backlog_setting(bench: Rig, rows: int) -> str:
    """What a comparison of backlogs ran on, for the report."""
    return f"on a table of {rows:,}, PostgreSQL {bench.source.major} to {bench.target.major}"
