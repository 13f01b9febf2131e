"""Ranges cover every row exactly once, whatever the keys are."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Callable

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cdc.copy import Part, Strategy, shape, split
from contexts.catalog import Table, read_tables
from contexts.databases import Connection, Database, Databases
from contexts.model import Side, TableName
from tests.copy.helpers import execute

INT8 = st.integers(-(2**63), 2**63 - 1)
EDGES = st.sampled_from([-(2**63), -(2**63) + 1, -2, -1, 0, 1, 2**63 - 2, 2**63 - 1])
NAME = TableName("public", "keyed")
BY_DATABASE = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(st.integers(0, 2**32), st.integers(1, 3000))
def test_ctid_ranges_meet_and_have_a_page_each(pages: int, parts: int) -> None:
    ranges = split.ranges(split.ctid_bounds(pages, parts))
    assert ranges[0][0] is None
    assert ranges[-1][1] is None
    for (_, upper), (lower, _) in itertools.pairwise(ranges):
        assert upper == lower
    cuts = [int(lower[0][1:].split(",")[0]) for lower, _ in ranges if lower]
    assert cuts == sorted(set(cuts))
    assert all(0 < cut < pages for cut in cuts)
    assert len(ranges) == max(1, min(parts, pages))


@given(st.integers(0, 1 << 50), st.integers(1, 32), st.integers(1, 1 << 40))
def test_a_part_is_never_larger_than_the_limit(total: int, workers: int, limit: int) -> None:
    assert 0 < split.part_bytes(total, workers, limit) <= limit


class _Keyed:
    """One keyed table on both sides, and whether ranges cut it well."""

    def __init__(self, pair: Databases, ddl: str) -> None:
        for database in (pair.shared, pair.service):
            execute(database, ddl)
        self.sides = [pair.shared.connect("test"), pair.service.connect("test")]
        self.tables = [read_tables(conn, [NAME])[NAME] for conn in self.sides]
        assert split.sorts_alike(*self.tables)

    def check(self, keys: set[tuple[object, ...]], parts: int) -> int:
        """Each row is in exactly one range, the same on both servers; returns how many ranges there are."""
        table = self.tables[0]
        for conn in self.sides:
            conn.execute(b"TRUNCATE public.keyed")
            with conn.cursor() as cursor:
                marks = ", ".join(["%s"] * len(table.primary_key))
                cursor.executemany(f"INSERT INTO public.keyed VALUES ({marks})".encode(), list(keys))
        bounds = split.key_bounds(self.sides[0], table, 1, parts)
        ranges = split.ranges(bounds)
        here, there = ([_rows(conn, table, one) for one in ranges] for conn in self.sides)
        assert here == there
        found = [row for one in here for row in one]
        assert len(found) == len(set(found)) == len(keys)
        return len(ranges)


def _rows(conn: Connection, table: Table, one: split.Range) -> list[str]:
    where = shape.within(Part(NAME, 0, Strategy.KEY, *one, 0), table.primary_key)
    query = f"SELECT t::text FROM public.keyed t{' WHERE ' + where.as_string(conn) if where else ''} ORDER BY 1"
    return [row[0] for row in conn.execute(query.encode())]


def test_integer_keys(pair: Databases) -> None:
    keyed = _Keyed(pair, "CREATE TABLE keyed (id bigint PRIMARY KEY)")

    @BY_DATABASE
    @given(st.sets(st.one_of(INT8, EDGES, st.integers(-20, 20)), max_size=60), st.integers(1, 12))
    @example(set(), 4)
    @example({-1}, 4)
    @example({-(2**63), -1, 2**63 - 1}, 3)
    @example(set(range(-30, 30)), 7)
    def check(ids: set[int], parts: int) -> None:
        assert keyed.check({(i,) for i in ids}, parts) == max(1, min(parts, len(ids)))

    check()


def test_composite_keys(pair: Databases) -> None:
    keyed = _Keyed(
        pair,
        'CREATE TABLE keyed ("a b" int, "T" text COLLATE "C", at timestamptz, PRIMARY KEY (at, "a b", "T"))',
    )
    texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)
    times = st.sampled_from(
        ["infinity", "-infinity", "0044-03-15 BC", "2024-01-01 00:00:00.000001+05:30", "2024-01-01"]
    )

    @BY_DATABASE
    @given(st.sets(st.tuples(st.integers(-2, 2), texts, times), max_size=40), st.integers(1, 9))
    @example({(1, "O'Reilly\\", "infinity"), (1, "", "infinity"), (-1, "\t\n%s{}", "-infinity")}, 3)
    def check(keys: set[tuple[int, str, str]], parts: int) -> None:
        keyed.check({(a, text, at) for a, text, at in keys if at != "2024-01-01"}, parts)

    check()


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("uuid", st.uuids()),
        ("numeric", st.sampled_from(["NaN", "Infinity", "-Infinity", "0", "-0.1", "1.1", "1e100", "-1e-100", "12"])),
        ("bytea", st.binary(max_size=4)),
        ("date", st.sampled_from(["infinity", "-infinity", "0044-03-15 BC", "2024-02-29", "5874897-12-31"])),
        ("timestamp", st.datetimes(min_value=dt.datetime(1, 1, 1))),
        ("smallint", st.integers(-32768, 32767)),
        ('varchar(3) COLLATE "POSIX"', st.text("abAB é~", max_size=3)),
        ('char(3) COLLATE "C"', st.sampled_from(["", "a", "b", "a b", "  x", "zzz", "A"])),
    ],
)
def test_other_keys(pair: Databases, type_: str, values: st.SearchStrategy[object]) -> None:
    keyed = _Keyed(pair, f"CREATE TABLE keyed (id {type_} PRIMARY KEY)")

    @BY_DATABASE
    @given(st.sets(values, max_size=30), st.integers(1, 6))
    def check(ids: set[object], parts: int) -> None:
        keyed.check({(i,) for i in ids}, parts)

    check()


def test_a_domain_as_key(pair: Databases) -> None:
    keyed = _Keyed(pair, "CREATE DOMAIN ident AS uuid; CREATE TABLE keyed (id ident PRIMARY KEY)")
    assert keyed.check({(uuid.UUID(int=i),) for i in range(20)}, 5) == 5


@pytest.mark.parametrize(
    ("shared", "service"),
    [
        ("id text PRIMARY KEY", "id text PRIMARY KEY"),
        ('id text COLLATE "C" PRIMARY KEY', "id text PRIMARY KEY"),
        ("id bigint PRIMARY KEY", "id int PRIMARY KEY"),
        ("id bigint", "id bigint"),
        ("id bigint PRIMARY KEY", "id bigint"),
        ("id interval PRIMARY KEY", "id interval PRIMARY KEY"),
        ("id int, b int, PRIMARY KEY (id, b)", "id int, b int, PRIMARY KEY (b, id)"),
    ],
)
def test_keys_that_may_sort_differently_are_not_used(pair: Databases, shared: str, service: str) -> None:
    execute(pair.shared, f"CREATE TABLE keyed ({shared})")
    execute(pair.service, f"CREATE TABLE keyed ({service})")
    with pair.shared.connect("test") as one, pair.service.connect("test") as other:
        assert not split.sorts_alike(read_tables(one, [NAME])[NAME], read_tables(other, [NAME])[NAME])


def test_a_sample_of_a_larger_table_gives_even_parts(new_database: Callable[[int, Side], Database]) -> None:
    database = new_database(16, Side.SHARED)
    execute(
        database,
        "CREATE TABLE keyed (id bigint PRIMARY KEY, body text);"
        "INSERT INTO keyed SELECT CASE WHEN i < 50000 THEN i ELSE i * 10000000000 END, repeat('x', 60)"
        " FROM generate_series(1, 100000) i",
    )
    with database.connect("test") as conn:
        table = read_tables(conn, [NAME])[NAME]
        pages = table.bytes // 8192
        assert pages > 2 * split._SAMPLE_PAGES  # so that it is a sample
        sizes = [len(_rows(conn, table, one)) for one in split.ranges(split.key_bounds(conn, table, pages, 10))]
    assert sum(sizes) == 100_000
    assert len(sizes) == 10
    assert max(sizes) < 20_000


def test_ctid_ranges_hold_every_row_once(new_database: Callable[[int, Side], Database]) -> None:
    database = new_database(16, Side.SHARED)
    execute(database, "CREATE TABLE keyed (id int); INSERT INTO keyed SELECT generate_series(1, 5000)")
    execute(database, "DELETE FROM keyed WHERE id % 3 = 0")
    with psycopg.connect(database.url) as conn:
        rows = [
            row[0]
            for lower, upper in split.ranges(split.ctid_bounds(23, 7))
            for row in conn.execute(
                b"SELECT id FROM public.keyed WHERE " + (_within(lower, upper).as_bytes(conn))
            ).fetchall()
        ]
    assert sorted(rows) == [i for i in range(1, 5001) if i % 3]


def _within(lower: tuple[str, ...] | None, upper: tuple[str, ...] | None) -> psycopg.sql.Composable:
    found = shape.within(Part(NAME, 0, Strategy.CTID, lower, upper, 0), ())
    assert found
    return found
