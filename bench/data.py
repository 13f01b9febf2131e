"""The data that is moved, streamed and compared, and the check that a contestant did the whole job."""

from __future__ import annotations

import psycopg
from psycopg import sql

from bench.harness import BenchError, Rig
from cdc.lsn import parse_lsn
from cdc.names import publication_name
from contexts.sqlfiles import load

WALLETS_PER_ENTRY = 1 / 20
CONTEXT = "bench"
PUBLICATION = publication_name(CONTEXT)
TABLES = ("wallet", "ledger_entry")
_SQL = load("bench", "data.sql")


def connect(url: str, **settings: int) -> psycopg.Connection:
    """An autocommit session with ``bench.<name>`` set for the statements of ``data.sql``."""
    conn = psycopg.connect(url, autocommit=True, prepare_threshold=None)
    for name, value in settings.items():
        conn.execute("SELECT pg_catalog.set_config(%s, %s, false)", (f"bench.{name}", str(value)))
    return conn


def make(url: str, rows: int) -> None:
    """Tables with ``rows`` ledger entries, keys, an index, statistics and a publication of both tables."""
    wallets = max(int(rows * WALLETS_PER_ENTRY), 1000)
    with connect(url, rows=wallets, wallets=wallets) as conn:
        execute(conn, "tables", "wallets")
        conn.execute("SELECT pg_catalog.set_config('bench.rows', %s, false)", (str(rows),))
        execute(conn, "entries", "keys", "indexes")
        conn.execute("VACUUM (FREEZE, ANALYZE)")
        names = sql.SQL(", ").join(sql.Identifier("public", table) for table in TABLES)
        conn.execute(sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(sql.Identifier(PUBLICATION), names))


def execute(conn: psycopg.Connection, *names: str) -> None:
    """Run statements of ``data.sql`` by name."""
    for name in names:
        conn.execute(_SQL[name])


def finished(conn: psycopg.Connection) -> bool:
    """Whether the last transaction of the backlog has arrived."""
    return conn.execute(_SQL["finished"]).fetchone() is not None


def receiving(conn: psycopg.Connection) -> bool:
    """Whether the target's subscription has received something."""
    return conn.execute(_SQL["receiving"]).fetchone() is not None


def log_end(url: str) -> int:
    """Where the server's log ends now."""
    with connect(url) as conn:
        row = conn.execute("SELECT pg_catalog.pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        return parse_lsn(row[0])


def fingerprint(url: str) -> list[str]:
    """Equal for two databases that hold the same rows in the same tables."""
    with connect(url) as conn:
        return [row[0] for row in conn.execute(_SQL["fingerprint"])]


def require_equal(bench: Rig) -> None:
    """The check after a run.

    :raises BenchError: the sides differ, in rows or in the number of indexes.
    """
    source, target = fingerprint(bench.ends.source), fingerprint(bench.ends.target)
    if source != target:
        raise BenchError(f"the rows differ: source {source}, target {target}")
    if _indexes(bench.ends.source) != _indexes(bench.ends.target):
        raise BenchError("an index is missing on the target")


def _indexes(url: str) -> int:
    with connect(url) as conn:
        row = conn.execute(_SQL["index_count"]).fetchone()
        assert row is not None
        return int(row[0])
