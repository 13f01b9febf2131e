"""The relay between two connections: what it counts, and how it ends when a server refuses."""

from __future__ import annotations

import psycopg
import pytest

from cdc.copy.relay import relay
from cdc.copy.worker import _connect
from contexts.databases import Connection, Databases
from tests.copy.helpers import execute

ROWS = b"COPY (SELECT i, repeat('x', 1000) FROM generate_series(1, 30000) AS i) TO STDOUT"
INTO = b"COPY public.t FROM STDIN"


@pytest.fixture
def ends(pair: Databases) -> tuple[Connection, Connection]:
    execute(pair.service, "CREATE TABLE t (id int CHECK (id <> 100), body text)")
    return pair.shared.connect("test"), pair.service.connect("test")


def test_rows_and_bytes_are_counted(ends: tuple[Connection, Connection]) -> None:
    source, target = ends
    target.execute("ALTER TABLE public.t DROP CONSTRAINT t_id_check")
    ticks: list[int] = []
    moved = relay(source.pgconn, target.pgconn, ROWS, INTO, ticks.append)
    assert moved.rows == 30_000
    assert moved.bytes == ticks[-1] == sum(len(f"{i}") for i in range(1, 30_001)) + 30_000 * 1002
    assert target.execute("SELECT count(*), sum(length(body)) FROM public.t").fetchone() == (30_000, 30_000_000)


def test_a_refused_row_is_the_error_that_is_raised(ends: tuple[Connection, Connection]) -> None:
    source, target = ends
    with pytest.raises(psycopg.errors.CheckViolation):
        relay(source.pgconn, target.pgconn, ROWS, INTO, lambda carried: None)
    assert target.execute("SELECT count(*) FROM public.t").fetchone() == (0,)


def test_an_error_of_the_reading_side_is_raised(ends: tuple[Connection, Connection]) -> None:
    source, target = ends
    query = b"COPY (SELECT 1000 / (500 - i), 'x' FROM generate_series(1, 1000) AS i) TO STDOUT"
    with pytest.raises(psycopg.errors.DivisionByZero):
        relay(source.pgconn, target.pgconn, query, INTO, lambda carried: None)


def test_an_empty_result_is_no_rows(ends: tuple[Connection, Connection]) -> None:
    source, target = ends
    moved = relay(
        source.pgconn, target.pgconn, b"COPY (SELECT 1, 'x' WHERE false) TO STDOUT", INTO, lambda carried: None
    )
    assert (moved.rows, moved.bytes) == (0, 0)


def test_no_time_limit_of_a_database_ends_a_session(pair: Databases) -> None:
    name = pair.service.url.rsplit("/", 1)[1]
    limits = ("statement_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
    for limit in limits:
        execute(pair.service, f"""ALTER DATABASE "{name}" SET {limit} = '1h'""")
    with _connect(pair.service, "test") as conn:
        assert [conn.execute(f"SHOW {limit}".encode()).fetchone() for limit in limits] == [("0",)] * 4
