"""What is equal and what is not, value by value, between servers of different majors and under hostile settings.

Two values are equal where their server writes them alike: then nobody who reads them can tell them apart.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from psycopg import sql

from contexts.databases import Databases
from contexts.model import Side
from tests.conftest import need
from tests.validations.support import NewDatabase, Sides
from validations.diff.model import DiffOptions, Kind, Verdict

MAJORS = [(15, 18), (16, 18)]


class Case(NamedTuple):
    """A value on the open and one on the closed side, as literals (None: NULL)."""

    type_sql: str
    one: str | None
    other: str | None


APART = {
    "null_or_empty": Case("text", None, ""),
    "null_or_word": Case("text", None, "NULL"),
    "trailing_blank": Case("text", "a", "a "),
    "trailing_blank_varchar": Case("varchar(9)", "a", "a "),
    "trailing_blank_bpchar": Case("bpchar", "a", "a "),
    "case": Case("text", "a", "A"),
    "composed": Case("text", "\u00e9", "e\u0301"),
    "sharp_s": Case("text", "ß", "ss"),
    "zero_or_null": Case("int8", "0", None),
    "upper_half": Case("int8", "1", "4294967296"),
    "sign_of_int8": Case("int8", "-5", "4294967291"),
    "scale": Case("numeric", "1.0", "1.00"),
    "scale_of_zero": Case("numeric", "0", "0.0"),
    "sign_of_numeric": Case("numeric", "-1.5", "1.5"),
    "numeric_nan": Case("numeric", "NaN", "0"),
    "numeric_infinity": Case("numeric", "Infinity", "-Infinity"),
    "last_digit": Case("numeric", "12345678901234567890.123456789", "12345678901234567890.123456788"),
    "negative_zero": Case("float8", "-0", "0"),
    "negative_zero_float4": Case("float4", "-0", "0"),
    "nan": Case("float8", "NaN", "Infinity"),
    "infinity": Case("float8", "Infinity", "-Infinity"),
    "last_bit": Case("float8", "0.1", "0.10000000000000002"),
    "negative_zero_in_array": Case("float8[]", "{-0}", "{0}"),
    "json_order": Case("json", '{"a":1,"b":2}', '{"b":2,"a":1}'),
    "json_blank": Case("json", '{"a":1}', '{"a": 1}'),
    "json_twice": Case("json", '{"a":1,"a":2}', '{"a":2}'),
    "json_null": Case("json", "null", None),
    "jsonb_null": Case("jsonb", "null", None),
    "jsonb_scale": Case("jsonb", "[1.0]", "[1.00]"),
    "jsonb_number": Case("jsonb", "9007199254740993", "9007199254740992"),
    "array_null": Case("int4[]", "{1,NULL}", "{1,0}"),
    "array_word": Case("text[]", "{NULL}", '{"NULL"}'),
    "array_empty_text": Case("text[]", '{""}', "{NULL}"),
    "array_or_null": Case("text[]", "{}", None),
    "array_bound": Case("int4[]", "[0:1]={1,2}", "{1,2}"),
    "array_shape": Case("int4[]", "{{1,2}}", "{1,2}"),
    "hour": Case("timestamptz", "2024-03-31 01:30+00", "2024-03-31 02:30+00"),
    "instant": Case("timestamptz", "2024-10-27 02:30+02", "2024-10-27 02:30+01"),
    "microsecond": Case("timestamp", "2024-01-01 00:00:00.000001", "2024-01-01"),
    "timestamp_infinity": Case("timestamp", "infinity", "-infinity"),
    "bc": Case("date", "0044-03-15 BC", "0044-03-15"),
    "midnight": Case("time", "24:00", "00:00"),
    "zone_of_time": Case("timetz", "12:00+00", "13:00+01"),
    "month": Case("interval", "1 mon", "30 days"),
    "day": Case("interval", "1 day", "24 hours"),
    "byte": Case("bytea", "\\x00", "\\x0000"),
    "mask": Case("inet", "10.0.0.1/8", "10.0.0.1/9"),
    "bits": Case("varbit", "0", "00"),
    "range_scale": Case("numrange", "[1.0,2)", "[1.00,2)"),
    "range_empty": Case("int4range", "empty", None),
    "composite_empty": Case("place", '("",)', "(,)"),
    "composite_null": Case("place", "(,)", None),
    "enum": Case("mood", "calm", "tense"),
}
EQUAL = {
    "same_text": Case("text", "a ", "a "),
    "both_null": Case("text", None, None),
    "padded": Case("char(4)", "a", "a   "),
    "declared_scale": Case("numeric(10,2)", "1.5", "1.50"),
    "exponent": Case("numeric", "1e2", "100"),
    "numeric_nan_": Case("numeric", "NaN", "nan"),
    "numeric_inf_": Case("numeric", "inf", "Infinity"),
    "nan_": Case("float8", "NaN", "nan"),
    "inf_": Case("float8", "-inf", "-Infinity"),
    "float_digits": Case("float8", "0.1", "0.1000000000000000055511151231257827"),
    "float4_digits": Case("float4", "0.1", "0.10000000149011612"),
    "subnormal": Case("float8", "5e-324", "4.9406564584124654e-324"),
    "jsonb_order": Case("jsonb", '{"a":1,"b":2}', '{ "b" : 2, "a" : 1 }'),
    "jsonb_exponent": Case("jsonb", "1e2", "100"),
    "array_null_": Case("int4[]", "{1,NULL}", "{1,null}"),
    "same_instant": Case("timestamptz", "2024-01-01 12:00+02", "2024-01-01 10:00+00"),
    "named_zone": Case("timestamptz", "2024-07-01 12:00 Europe/Berlin", "2024-07-01 10:00+00"),
    "instants": Case("timestamptz[]", '{"2024-01-01 12:00+02"}', '{"2024-01-01 10:00+00"}'),
    "range_of_instants": Case("tstzrange", "[2024-01-01 12:00+02,)", "[2024-01-01 10:00+00,)"),
    "interval_words": Case("interval", "1 year 2 mons", "P1Y2M"),
    "discrete_range": Case("int4range", "[1,4]", "[1,5)"),
    "bytea_forms": Case("bytea", "\\x00ff", "\\000\\377"),
    "uuid_forms": Case("uuid", "7D4448409DC011D1B2455FFDCE74FAD2", "7d444840-9dc0-11d1-b245-5ffdce74fad2"),
    "host": Case("inet", "10.0.0.1", "10.0.0.1/32"),
    "words": Case("tsvector", "a b", "b a"),
    "truth": Case("bool", "yes", "t"),
    "cents": Case("money", "12.3", "12.30"),
    "composite": Case("place", "(x,1)", '("x",1)'),
}
CASES = {**APART, **EQUAL}
#: Every setting that changes how a value is written, set against us for all sessions of the database.
HOSTILE = {
    "datestyle": "'SQL, DMY'", "timezone": "'Asia/Kolkata'", "intervalstyle": "'iso_8601'", "bytea_output": "'escape'",
    "extra_float_digits": "'-5'", "lc_monetary": "'C'", "search_path": "'nowhere'",
    "default_transaction_isolation": "'serializable'", "statement_timeout": "'1ms'",
}  # fmt: skip


@pytest.fixture(params=MAJORS, ids=lambda m: f"{m[0]}-{m[1]}")
def sides(request: pytest.FixtureRequest, new_database: NewDatabase) -> Sides:
    majors = request.param
    made = Sides(Databases(new_database(majors[0], Side.SHARED), new_database(majors[1], Side.SERVICE)))
    columns = ", ".join(f'"{name}" {case.type_sql}' for name, case in CASES.items())
    made.on(Side.SERVICE, "CREATE TABLE shift_oids_of_types (a int)")
    made.both("CREATE TYPE mood AS ENUM ('calm', 'tense')", "CREATE TYPE place AS (street text, number int)",
              f"CREATE TABLE t (k int PRIMARY KEY, {columns})")  # fmt: skip
    return made


@pytest.fixture
def plain(pair: Databases) -> Sides:
    """Nothing yet, on 16 and 18."""
    return Sides(pair)


def _insert(sides: Sides, side: Side, key: int, values: dict[str, str | None]) -> None:
    casts = sql.SQL(", ").join(
        sql.SQL("{}::text::{}").format(sql.Literal(value), sql.SQL(CASES[name].type_sql))
        for name, value in values.items()
    )
    with sides.databases[side].connect("test", search_path="public") as conn:
        conn.execute(sql.SQL("INSERT INTO t VALUES ({}, {})").format(sql.Literal(key), casts))


def test_values_are_told_apart_as_their_text_is(sides: Sides) -> None:
    ones, others = ({name: case[n] for name, case in CASES.items()} for n in (1, 2))
    _insert(sides, Side.SHARED, 1, ones)
    _insert(sides, Side.SERVICE, 1, others)
    for side in Side:
        _insert(sides, side, 2, ones)
        _insert(sides, side, 3, others)
    (found,) = sides.found(sides.diff())
    assert (found.key, found.kind) == (("1",), Kind.DIFFERENT)
    assert set(found.columns) == APART.keys()


def test_settings_of_a_database_change_nothing(sides: Sides) -> None:
    """Each side's database has all of them, or none: the values are the same."""
    for key in (1, 2):
        for side in Side:
            _insert(sides, side, key, {name: case[key] for name, case in CASES.items()})
    for side in Side:
        with sides.databases[side].connect("test") as conn:
            database = sql.Identifier(conn.info.dbname)
            for name, value in HOSTILE.items():
                conn.execute(sql.SQL("ALTER DATABASE {} SET {} = {}").format(database, sql.SQL(name), sql.SQL(value)))
        result = sides.diff()
        assert (result.verdict, result.rows) == (Verdict.EQUAL, 2)


def test_json_against_jsonb_is_compared_as_text(plain: Sides) -> None:
    plain.on(Side.SHARED, "CREATE TABLE t (k int PRIMARY KEY, doc json)")
    plain.on(Side.SERVICE, "CREATE TABLE t (k int PRIMARY KEY, doc jsonb)")
    plain.both("""INSERT INTO t VALUES (1, '{"a": 1}'), (2, '{"b": 1, "a": 2}'), (3, NULL), (4, '{"a":1}')""")
    found = plain.found(plain.diff())
    assert [(d.key, d.columns) for d in found] == [(("2",), ("doc",)), (("4",), ("doc",))]


def test_generated_columns_are_compared_whether_stored_or_computed(plain: Sides) -> None:
    plain.on(Side.SHARED, "CREATE TABLE t (k int PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n * 2) STORED)")
    plain.on(Side.SERVICE, "CREATE TABLE t (k int PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n * 2) VIRTUAL)")
    plain.both("INSERT INTO t VALUES (1, 1), (2, NULL)")
    assert plain.diff().verdict is Verdict.EQUAL
    plain.on(Side.SERVICE, "ALTER TABLE t ALTER g SET EXPRESSION AS (n * 3)")
    assert [(d.key, d.columns) for d in plain.found(plain.diff())] == [(("1",), ("g",))]


def test_keys_are_found_whatever_order_a_collation_gives_them(new_database: NewDatabase) -> None:
    """Each side orders the key its own way; every missing, surplus and changed one is named all the same."""
    sides = Sides(Databases(new_database(15, Side.SHARED), new_database(18, Side.SERVICE)))
    with sides.databases.shared.connect("test") as conn:
        need(
            "icu",
            conn.execute("SELECT FROM pg_collation WHERE collname = 'sv-x-icu'").rowcount == 1,
            "a server with ICU",
        )
    sides.on(Side.SHARED, 'CREATE TABLE t (k text COLLATE "sv-x-icu" PRIMARY KEY, n int)')
    sides.on(Side.SERVICE, 'CREATE TABLE t (k varchar(9) COLLATE "C" PRIMARY KEY, n int)')
    sides.both("INSERT INTO t SELECT w || i, i FROM unnest(ARRAY['ä', 'z', 'Z', 'a', 'å', '-a', 'a ']) w,"
               " generate_series(1, 40) i")  # fmt: skip
    small = DiffOptions(range_rows=8, ranges_per_segment=2, leaf_rows=4)
    assert sides.diff(options=small).verdict is Verdict.EQUAL
    sides.on(Side.SERVICE, "UPDATE t SET n = 0 WHERE k = 'ä7'", "DELETE FROM t WHERE k = 'Z40'",
             "INSERT INTO t VALUES ('ö', 1)")  # fmt: skip
    found = {(d.key[0], d.kind) for d in sides.found(sides.diff(options=small))}
    assert found == {("ä7", Kind.DIFFERENT), ("Z40", Kind.MISSING_ON_CLOSED), ("ö", Kind.MISSING_ON_OPEN)}
