"""A backlog of changes that every run reads anew.

It is written once. A slot from before it is copied for each run, and the target begins as a copy of the state at
that slot, so every run applies the very same changes.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from bench import data
from bench.harness import Rig

ROWS_PER_TRANSACTION = 5
RUN_SLOT = "bench_run"
_BASE_SLOT = "bench_base"
_BASE = "service_base"


def prepare(bench: Rig, rows: int, backlog: str, **settings: int) -> None:
    """Both servers in the same state, a slot at that state, then the backlog: a statement of ``data.sql``."""
    bench.recreate(bench.source)
    data.make(bench.ends.source, rows)
    with psycopg.connect(bench.target.url(), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_BASE)))
    data.make(bench.target.url(_BASE), rows)
    with data.connect(bench.ends.source, **settings) as conn:
        conn.execute("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", (_BASE_SLOT,))
        data.execute(conn, backlog, "finish")


def begin(bench: Rig) -> None:
    """The state before the backlog: target tables as they were, and a slot that has not been read."""
    bench.recreate(bench.target, _BASE)
    with data.connect(bench.ends.source) as conn:
        conn.execute("SELECT pg_catalog.pg_copy_logical_replication_slot(%s, %s)", (_BASE_SLOT, RUN_SLOT))


def end(bench: Rig) -> None:
    """Drop the run's slot."""
    with data.connect(bench.ends.source) as conn:
        conn.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", (RUN_SLOT,))


def setting(bench: Rig, rows: int) -> str:
    """What a comparison ran on, for the report."""
    return f"on a table of {rows:,}, PostgreSQL {bench.source.major} to {bench.target.major}"
