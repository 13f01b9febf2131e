"""Keys of every kind, tables without key, tables that differ in shape."""

from __future__ import annotations

from typing import Any

import pytest

from contexts.databases import Databases
from contexts.model import Side, TableName
from tests.validations.support import NewDatabase, Sides
from validations.diff.model import DiffOptions, Kind, Method, Verdict

MISSING, SURPLUS, DIFFERENT = Kind.MISSING_ON_CLOSED, Kind.MISSING_ON_OPEN, Kind.DIFFERENT
SMALL = DiffOptions(range_rows=50, ranges_per_segment=2, leaf_rows=10, scan_rows=200)

KEYS: dict[str, tuple[str, str, Method]] = {
    "int": ("int4", "i", Method.RANGES),
    "numeric": ("numeric", "i / 3.0", Method.RANGES),
    "uuid": ("uuid", "md5(i::text)::uuid", Method.RANGES),
    "date": ("date", "'2024-02-29'::date - i", Method.RANGES),
    "timestamptz": ("timestamptz", "'2024-02-29'::timestamptz - i * interval '1 h'", Method.RANGES),
    "bytea": ("bytea", "sha256(i::text::bytea)", Method.RANGES),
    "text of C": ('text COLLATE "C"', "chr(64 + i % 60) || i", Method.RANGES),
    "text of the database": ("varchar(40)", "chr(200 + i % 90) || i", Method.RANGES),
    "char(n)": ("char(8)", "'k' || i", Method.HASH),
    "enum": ("side_key", "('e' || i)::side_key", Method.HASH),
    "domain": ("positive", "i", Method.RANGES),
    "interval": ("interval", "i * interval '1 day'", Method.HASH),
    "bool array": ("int4[]", "ARRAY[i % 7, i]", Method.HASH),
}
TYPES = (
    "DO $$ BEGIN EXECUTE format('CREATE TYPE side_key AS ENUM (%s)', (SELECT string_agg(quote_literal('e' || i), ',')"
    " FROM generate_series(1, 600) i)); END $$",
    "CREATE DOMAIN positive AS int8 CHECK (VALUE > 0)",
)


@pytest.fixture(scope="module")
def sides(module_pair: Databases) -> Sides:
    made = Sides(module_pair, options=SMALL)
    made.on(Side.SERVICE, "CREATE TABLE shift_oids_of_types (a int)")
    made.both(*TYPES)
    return made


def _fill(sides: Sides, columns: str, values: str, *, key: str = "PRIMARY KEY (k)") -> None:
    constraint = f", {key}" if key else ""
    sides.both(
        "DROP TABLE IF EXISTS t",
        f"CREATE TABLE t ({columns}, n int{constraint})",
        f"INSERT INTO t SELECT {values}, i FROM generate_series(1, 600) AS i",
        "ANALYZE t",
    )


@pytest.mark.parametrize("what", KEYS)
def test_a_key_of_any_type(sides: Sides, what: str) -> None:
    type_sql, value, method = KEYS[what]
    _fill(sides, f"k {type_sql}", value)
    assert sides.diff().verdict is Verdict.EQUAL
    sides.on(Side.SERVICE, "UPDATE t SET n = -n WHERE n IN (17, 444)", "DELETE FROM t WHERE n = 600")
    sides.on(Side.SHARED, "DELETE FROM t WHERE n = 1")
    result = sides.diff()
    assert result.tables[0].method is method
    shown = _shown(sides, type_sql, value)
    if what == "numeric":  # keys are matched without their scale
        shown = {n: text.rstrip("0").rstrip(".") for n, text in shown.items()}
    expected = {(shown[17], DIFFERENT), (shown[444], DIFFERENT), (shown[600], MISSING), (shown[1], SURPLUS)}
    assert {(d.key[0], d.kind) for d in sides.found(result)} == expected


@pytest.mark.parametrize(
    ("first", "method"), [("int4", Method.RANGES), ("text", Method.RANGES), ("char(3)", Method.HASH)]
)
def test_a_composite_key(sides: Sides, first: str, method: Method) -> None:
    _fill(sides, f"a {first}, k int8", "i % 3, i", key="PRIMARY KEY (a, k)")
    assert sides.diff().verdict is Verdict.EQUAL
    sides.on(Side.SERVICE, "UPDATE t SET n = 0 WHERE k = 100", "DELETE FROM t WHERE k = 3")
    result = sides.diff()
    assert result.tables[0].method is method
    assert [(d.key[1], d.kind) for d in sides.found(result)] == [("3", MISSING), ("100", DIFFERENT)]


def test_numeric_keys_of_another_scale_are_one_key(sides: Sides) -> None:
    _fill(sides, "k numeric", "i")
    sides.on(Side.SERVICE, "UPDATE t SET k = 20.00 WHERE k = 20")
    assert [(d.key, d.kind, d.columns) for d in sides.found(sides.diff())] == [(("20",), DIFFERENT, ("k",))]


def _shown(sides: Sides, type_sql: str, value: str) -> dict[int, str]:
    """The text of the keys that belong to some numbers."""
    query = f"SELECT i, concat(({value})::{type_sql}) FROM unnest(ARRAY[1, 17, 444, 600]) AS i"
    with sides.databases.service.connect("test", search_path="public") as conn:
        return {n: str(text) for n, text in conn.execute(query).fetchall()}


def test_a_key_that_only_the_open_side_declares(sides: Sides) -> None:
    _fill(sides, "k int8", "i")
    sides.on(Side.SERVICE, "ALTER TABLE t DROP CONSTRAINT t_pkey")
    assert sides.diff().verdict is Verdict.EQUAL
    sides.on(Side.SERVICE, "INSERT INTO t SELECT * FROM t WHERE k = 7", "UPDATE t SET n = 0 WHERE k = 8")
    result = sides.diff()
    assert result.tables[0].method is Method.HASH
    assert [(d.key, d.kind) for d in sides.found(result)] == [(("7",), SURPLUS), (("8",), DIFFERENT)]


def test_a_bag(sides: Sides) -> None:
    _fill(sides, "k int8", "i % 100", key="")
    sides.both("INSERT INTO t SELECT k, n FROM t WHERE k < 3", "INSERT INTO t VALUES (NULL, NULL), (NULL, NULL)")
    equal = sides.diff()
    assert (equal.verdict, equal.tables[0].method, equal.rows) == (Verdict.EQUAL, Method.BAG, 620)
    sides.on(
        Side.SERVICE,
        "INSERT INTO t SELECT k, n FROM t WHERE n = 50",  # a doubled row
        "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE k IS NULL)",
        "UPDATE t SET n = n + 1 WHERE n = 599",
    )
    result = sides.diff()
    kinds = sorted((d.kind, d.count) for d in sides.found(result))
    assert kinds == [(MISSING, 1), (MISSING, 1), (SURPLUS, 1), (SURPLUS, 1)]
    assert (result.tables[0].missing_on_closed, result.tables[0].missing_on_open) == (2, 2)


def test_a_bag_whose_counts_cancel_out(sides: Sides) -> None:
    _fill(sides, "k int8", "1", key="")
    sides.on(Side.SERVICE, "UPDATE t SET n = 5 WHERE n = 4")  # as many rows, one doubled, one gone
    assert sorted((d.kind, d.count) for d in sides.found(sides.diff())) == [(MISSING, 1), (SURPLUS, 1)]


def test_rows_of_a_bag_are_shown_only_where_asked_for(sides: Sides) -> None:
    _fill(sides, "k int8", "i", key="")
    sides.on(Side.SERVICE, "DELETE FROM t WHERE k = 9")
    (hidden,) = sides.found(sides.diff())
    assert (hidden.open_values, len(hidden.key[0])) == (None, 16)
    shown = DiffOptions(show_values=True)
    (found,) = sides.found(sides.diff(options=shown))
    assert (found.open_values, found.closed_values) == (("(9,9)",), (None,))


def test_columns_of_other_types_are_compared_as_text(sides: Sides) -> None:
    _fill(sides, "k int4", "i")
    sides.on(Side.SERVICE, "ALTER TABLE t ALTER k TYPE int8, ALTER n TYPE numeric(12, 0)")
    assert sides.diff().verdict is Verdict.EQUAL
    sides.on(Side.SERVICE, "UPDATE t SET n = n + 4294967296 WHERE k = 3")
    assert [(d.key, d.columns) for d in sides.found(sides.diff())] == [(("3",), ("n",))]


def test_the_order_of_columns_does_not_matter(sides: Sides) -> None:
    _fill(sides, "k int4, a text", "i, 'x'")
    sides.on(
        Side.SERVICE,
        "DROP TABLE t",
        "CREATE TABLE t (a text, n int, u int, k int4 PRIMARY KEY)",
        "ALTER TABLE t DROP COLUMN u",
        "INSERT INTO t SELECT 'x', i, i FROM generate_series(1, 600) i",
    )
    assert sides.diff().verdict is Verdict.EQUAL


def test_missing_columns_and_tables_are_never_green(sides: Sides) -> None:
    _fill(sides, "k int4, a text", "i, 'x'")
    sides.on(Side.SERVICE, "ALTER TABLE t DROP COLUMN a")
    result = sides.diff()
    assert (result.verdict, result.tables[0].problem) == (Verdict.INCOMPLETE, "columns only on the open side: a")
    sides.on(Side.SERVICE, "DROP TABLE t")
    result = sides.diff()
    assert (result.verdict, result.tables[0].problem) == (Verdict.INCOMPLETE, "the table is missing on the closed side")
    sides.on(Side.SHARED, "DROP TABLE t")
    result = sides.diff()
    assert (result.verdict, result.tables[0].problem) == (Verdict.INCOMPLETE, "the table is missing on both sides")


@pytest.mark.parametrize("key", ["PRIMARY KEY (k)", "PRIMARY KEY (k, n)", ""])
def test_comparing_nothing_is_not_green(sides: Sides, key: str) -> None:
    _fill(sides, "k char(9)", "i", key=key)
    sides.both("TRUNCATE t")
    assert sides.diff().verdict is Verdict.NOTHING_COMPARED
    sides.on(Side.SERVICE, "INSERT INTO t VALUES ('a', 1)")
    assert sides.diff().verdict is Verdict.DIFFERENT


def test_an_empty_table_does_not_spoil_the_proof_of_another(pair: Databases) -> None:
    sides = Sides(pair, ("t", "u"))
    sides.both("CREATE TABLE t (k int PRIMARY KEY)", "CREATE TABLE u (k int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    result = sides.diff()
    assert result.verdict is Verdict.EQUAL
    assert {t.table.name: t.verdict for t in result.tables} == {"t": Verdict.EQUAL, "u": Verdict.NOTHING_COMPARED}


PARTS = (
    "CREATE TABLE t (k int, n int, PRIMARY KEY (k)) PARTITION BY RANGE (k)",
    "CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (MINVALUE) TO (300)",
    "CREATE TABLE t_high PARTITION OF t FOR VALUES FROM (300) TO (MAXVALUE)",
)


@pytest.mark.parametrize("plain", [None, Side.SHARED, Side.SERVICE])
def test_partitions(pair: Databases, plain: Side | None) -> None:
    sides = Sides(pair, options=SMALL)
    for side in Side:
        sides.on(side, *(("CREATE TABLE t (k int PRIMARY KEY, n int)",) if side is plain else PARTS))
    sides.both("INSERT INTO t SELECT i, i FROM generate_series(1, 600) i", "ANALYZE")
    result = sides.diff()
    assert (result.verdict, result.rows) == (Verdict.EQUAL, 600)
    assert {t.table.name for t in result.tables} == ({"t"} if plain else {"t_low", "t_high"})
    sides.on(Side.SERVICE, "UPDATE t SET n = 0 WHERE k = 299", "DELETE FROM t WHERE k = 300")
    found = sides.found(sides.diff())
    assert [(d.key, d.kind) for d in found] == [(("299",), DIFFERENT), (("300",), MISSING)]


def test_odd_names(pair: Databases) -> None:
    sides = Sides(pair, ('o"dd %s', "B"), SMALL)
    for name in ('"o""dd %s"', '"B"'):
        sides.both(
            f'CREATE TABLE {name} ("%(k)s" int, "K" text, "k,1" text, PRIMARY KEY ("%(k)s", "K"))',
            f"INSERT INTO {name} SELECT i, '%s''\"\\' || i, '%s' FROM generate_series(1, 600) i",
        )
    assert sides.diff().verdict is Verdict.EQUAL
    sides.on(Side.SERVICE, 'UPDATE "o""dd %s" SET "k,1" = NULL WHERE "%(k)s" = 4')
    assert [(d.key, d.columns) for d in sides.found(sides.diff())] == [(("4", "%s'\"\\4"), ("k,1",))]


def test_a_collation_that_calls_other_text_equal(new_database: NewDatabase) -> None:
    databases = Databases(new_database(15, Side.SHARED), new_database(15, Side.SERVICE))
    sides = Sides(databases, options=SMALL)
    with databases.shared.connect("test") as conn:
        if not conn.execute("SELECT FROM pg_collation WHERE collprovider = 'i'").fetchall():
            pytest.skip("this server was built without ICU")
    sides.both(
        "CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        'CREATE TABLE t (k text COLLATE folded PRIMARY KEY, a text COLLATE folded, d text COLLATE "en-x-icu")',
        "INSERT INTO t SELECT 'k' || i, 'abc', 'd' FROM generate_series(1, 600) i",
    )
    assert sides.diff().verdict is Verdict.EQUAL
    sides.on(Side.SERVICE, "UPDATE t SET a = 'ABC' WHERE k = 'k5'", "UPDATE t SET k = 'K6' WHERE k = 'k6'")
    found = sides.found(sides.diff())
    assert [(d.key[0], d.kind) for d in found] == [("K6", SURPLUS), ("k5", DIFFERENT), ("k6", MISSING)]


def test_servers_of_other_encodings(servers: Any, new_database: NewDatabase) -> None:
    shared, service = new_database(16, Side.SHARED), new_database(18, Side.SERVICE)
    name = "latin_shared"
    with shared.connect("test") as conn:
        conn.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    latin = type(shared)(Side.SHARED, servers(16).url(name))
    try:
        sides = Sides(Databases(latin, service), options=SMALL)
        sides.both("CREATE TABLE t (k text PRIMARY KEY, a text)", "INSERT INTO t VALUES ('é', 'ü'), ('x', NULL)")
        assert sides.diff().verdict is Verdict.EQUAL
        sides.on(Side.SERVICE, "UPDATE t SET a = 'u' WHERE k = 'é'")
        assert [(d.key, d.columns) for d in sides.found(sides.diff())] == [(("é",), ("a",))]
    finally:
        with shared.connect("test") as conn:
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_key_that_lies_scattered_is_scanned(pair: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("validations.diff.plan._SCAN_FREELY", 0)
    sides = Sides(pair, options=SMALL)
    sides.both(
        "CREATE TABLE t (k uuid PRIMARY KEY, n int)",
        "INSERT INTO t SELECT md5(i::text)::uuid, i FROM generate_series(1, 600) i",
    )
    assert sides.diff().tables[0].method is Method.HASH
    sides.both("CREATE TABLE u AS SELECT * FROM t ORDER BY k", "TRUNCATE t", "INSERT INTO t TABLE u", "ANALYZE t")
    assert sides.diff().tables[0].method is Method.RANGES


def test_cuts_sampled_by_page(pair: Databases) -> None:
    sides = Sides(pair, options=DiffOptions(range_rows=20_000, ranges_per_segment=2, leaf_rows=100))
    sides.both(
        "CREATE TABLE t (k int PRIMARY KEY, n text) WITH (fillfactor = 20)",
        "INSERT INTO t SELECT i, repeat('x', 60) FROM generate_series(-60000, 60000) i",
        "ANALYZE t",
    )
    result = sides.diff()
    assert (result.verdict, result.rows, result.tables[0].segments) == (Verdict.EQUAL, 120_001, 3)
    sides.on(Side.SERVICE, "UPDATE t SET n = '' WHERE k = -1")
    assert [d.key for d in sides.found(sides.diff())] == [("-1",)]


def test_names_of_the_context_that_no_side_has(pair: Databases) -> None:
    sides = Sides(pair, ())
    assert sides.diff().verdict is Verdict.NOTHING_COMPARED
    sides.tables = ("t",)
    result = sides.diff()
    assert [(t.table, t.verdict) for t in result.tables] == [(TableName("public", "t"), Verdict.INCOMPLETE)]
