"""Every planted corruption is found, by its key and in its class, and nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contexts.databases import Databases
from contexts.model import Side
from tests.validations.support import Sides
from validations.diff.model import DiffOptions, Kind, Verdict

MISSING, SURPLUS, DIFFERENT = Kind.MISSING_ON_CLOSED, Kind.MISSING_ON_OPEN, Kind.DIFFERENT

TYPES = (
    "CREATE TYPE mood AS ENUM ('calm', 'tense')",
    "CREATE TYPE place AS (street text, number int)",
    "CREATE DOMAIN cents AS int8",
)
TABLE = """
CREATE TABLE t (
    id int8 PRIMARY KEY, amount numeric(20, 4), ratio numeric, units int8, held cents, small int4, rate float8,
    name text, code char(6), loose bpchar, tag varchar(20), at timestamptz, at_local timestamp,
    day date, clock time, clock_tz timetz, span interval, doc json, doc_b jsonb, raw bytea, list int4[], mood mood,
    ok bool, owner uuid, addr inet, place place, span_i int4range, mark "char", price money,
    twice numeric GENERATED ALWAYS AS (amount * 2) STORED
)
"""
FILL = """
INSERT INTO t
SELECT i, i % 1000 / 7.0, 1.50, i, -5, i % 1000, 0.0, 'n' || i, 'ab', 'ab ', 'tag',
       '2024-03-31 01:30:00+00'::timestamptz + i % 1000 * '1 s'::interval,
       '2024-03-31 02:30:00.000001', '2024-02-29', '23:59:59.999999', '12:00:00+01', '1 mon', '{"a": 1, "b": 2}',
       '{"a": 1}', '\\x00ff00', '{1,NULL,3}', 'calm', true, '7d444840-9dc0-11d1-b245-5ffdce74fad2', '10.0.0.1/24',
       '(,)', '[1,5)', 'x', '12.34'
FROM (SELECT generate_series(-900, 900, 3) UNION ALL VALUES (-9223372036854775808), (9223372036854775807)) AS s (i)
"""
LEAST, MOST = "-9223372036854775808", "9223372036854775807"
#: Small enough that a thousand rows pass every level: segments, ranges, narrower ranges, rows.
SMALL = DiffOptions(range_rows=100, ranges_per_segment=2, leaf_rows=10)

CHANGED = {
    "a lost update": "amount = amount - 1",
    "one cent": "amount = amount + 0.01",
    "the sign of a numeric": "amount = -amount",
    "the sign of an unconstrained numeric": "ratio = -ratio",
    "a lost fraction digit": "ratio = 1.5",
    "NaN for a number": "ratio = 'NaN'",
    "the upper half of a bigint": "units = units + 4294967296 + 1 - 2 * (units & 1)",
    "an unsigned reading of a bigint": "held = 4294967291",
    "an integer": "small = small + 1",
    "a negative zero": "rate = '-0.0'",
    "the last bit of a float": "rate = 5e-324",
    "empty for a text": "name = ''",
    "NULL for a text": "name = NULL",
    "a trailing blank": "name = name || ' '",
    "one letter of a padded text": "code = 'ac'",
    "trailing blanks of an unlimited bpchar": "loose = 'ab'",
    "a composed letter": "tag = 'ta\u0301g'",
    "an hour by time zone": "at = at + interval '1 hour'",
    "a microsecond": "at_local = at_local - interval '1 microsecond'",
    "a timestamp at infinity": "at_local = 'infinity'",
    "a leap day": "day = '2024-03-01'",
    "a rounded time": "clock = '24:00:00'",
    "the zone of a time": "clock_tz = '11:00:00+00'",
    "30 days for a month": "span = interval '30 days'",
    "the key order of json": 'doc = \'{"b": 2, "a": 1}\'',
    "a blank in json": 'doc = \'{"a":1, "b": 2}\'',
    "the scale of a number in jsonb": "doc_b = '{\"a\": 1.0}'",
    "one byte": "raw = '\\x00fe00'",
    "an array's NULL": "list = '{1,0,3}'",
    "an array's lower bound": "list = '[0:2]={1,NULL,3}'",
    "an enum": "mood = 'tense'",
    "a truth": "ok = false",
    "an identifier": "owner = '7d444840-9dc0-11d1-b245-5ffdce74fad3'",
    "a network mask": "addr = '10.0.0.1/25'",
    "empty for NULL in a composite": "place = '(\"\",)'",
    "NULL for a composite of NULLs": "place = NULL",
    "a range's bound": "span_i = '[1,4)'",
    "a single byte character": "mark = 'y'",
    "money": "price = '12.35'",
}


@pytest.fixture(scope="module")
def sides(module_pair: Databases) -> Sides:
    made = Sides(module_pair, options=SMALL)
    made.both(*TYPES, TABLE, FILL, "ANALYZE t", "CREATE TABLE pristine AS SELECT * FROM t")
    return made


@pytest.fixture
def whole(sides: Sides) -> Iterator[Sides]:
    """Both sides equal before, and put back after."""
    yield sides
    columns = [c.name for c in sides.read(Side.SERVICE)[sides.names[0]].written_columns]
    sides.on(Side.SERVICE, "TRUNCATE t", f"INSERT INTO t SELECT {', '.join(columns)} FROM pristine")


def test_the_tables_are_equal_before(whole: Sides) -> None:
    result = whole.diff()
    assert (result.verdict, result.rows, result.tables[0].method) == (Verdict.EQUAL, 603, "ranges")
    assert result.tables[0].segments == 3


@pytest.mark.parametrize("what", CHANGED)
@pytest.mark.parametrize("key", ["-3", "900"])
def test_a_changed_value(whole: Sides, what: str, key: str) -> None:
    whole.on(Side.SERVICE, f"UPDATE t SET {CHANGED[what]} WHERE id = {key}")
    column = CHANGED[what].split()[0]
    result = whole.diff()
    assert result.verdict is Verdict.DIFFERENT
    expected = ("amount", "twice") if column == "amount" else (column,)
    assert [(d.key, d.kind, d.columns) for d in whole.found(result)] == [((key,), DIFFERENT, expected)]


@pytest.mark.parametrize("column", ["amount", "units", "name", "at"])
@pytest.mark.parametrize(("one", "other"), [("-3", "0"), ("-897", "897"), ("3", "30"), ("300", "303")])
def test_a_swapped_pair(whole: Sides, column: str, one: str, other: str) -> None:
    # The sum over a segment stays the same if the row hash is linear in its columns.
    whole.on(
        Side.SERVICE,
        f"UPDATE t SET {column} = o.{column} FROM pristine o"
        f" WHERE t.id IN ({one}, {other}) AND o.id IN ({one}, {other}) AND t.id <> o.id",
    )
    found = whole.found(whole.diff())
    assert {d.key[0] for d in found} == {one, other}
    assert {d.kind for d in found} == {DIFFERENT}
    assert all(column in d.columns for d in found)


def test_a_cent_moved_between_two_rows(whole: Sides) -> None:
    whole.on(Side.SERVICE, "UPDATE t SET amount = amount + CASE id WHEN 3 THEN 0.01 ELSE -0.01 END WHERE id IN (3, 6)")
    assert [d.key for d in whole.found(whole.diff())] == [("3",), ("6",)]


@pytest.mark.parametrize("key", [LEAST, "-900", "-1", "-3", "0", "897", "900", MOST])
def test_a_missing_row(whole: Sides, key: str) -> None:
    whole.both(f"DELETE FROM t WHERE id = {key}")
    if key == "-1":  # not there anyway: nothing may be found
        assert whole.diff().verdict is Verdict.EQUAL
        return
    whole.on(Side.SHARED, f"INSERT INTO t SELECT {_written(whole)} FROM pristine WHERE id = {key}")
    result = whole.diff()
    assert [(d.key, d.kind) for d in whole.found(result)] == [((key,), MISSING)]
    assert (result.tables[0].missing_on_closed, result.tables[0].differences) == (1, 1)


@pytest.mark.parametrize("key", ["-9223372036854775807", "-901", "-1", "1", "901", "9223372036854775806"])
def test_a_surplus_row(whole: Sides, key: str) -> None:
    whole.on(Side.SERVICE, f"INSERT INTO t (id, name) VALUES ({key}, 'ghost')")
    assert [(d.key, d.kind) for d in whole.found(whole.diff())] == [((key,), SURPLUS)]


def test_rows_missing_at_the_cuts_of_all_segments(whole: Sides) -> None:
    first = whole.diff()
    with whole.databases.service.connect("test") as conn:
        extents = conn.execute(
            "SELECT extent ->> 'lower', extent -> 'cuts' FROM carveout.verification_segment WHERE verification = %s",
            (first.verification,),
        ).fetchall()
    cuts = {key[0] for _, keys in extents for key in keys}
    assert len(cuts) == 3
    whole.on(Side.SERVICE, f"DELETE FROM t WHERE id IN ({', '.join(cuts)})")
    assert {d.key[0] for d in whole.found(whole.diff())} == cuts


def test_a_changed_key(whole: Sides) -> None:
    whole.on(Side.SERVICE, "UPDATE t SET id = 4 WHERE id = 3")
    found = [(d.key, d.kind) for d in whole.found(whole.diff())]
    assert found == [(("3",), MISSING), (("4",), SURPLUS)]


def test_a_stored_generated_column_by_another_formula(whole: Sides) -> None:
    usual = "amount * 2"
    whole.on(Side.SERVICE, *_computed(f"CASE id WHEN 9 THEN amount * 3 ELSE {usual} END"))
    try:
        assert [(d.key, d.columns) for d in whole.found(whole.diff())] == [(("9",), ("twice",))]
    finally:
        whole.on(Side.SERVICE, *_computed(usual))


def test_all_rows_missing_and_all_rows_surplus(whole: Sides) -> None:
    whole.on(Side.SERVICE, "DELETE FROM t")
    assert whole.diff().tables[0].missing_on_closed == 603
    whole.on(Side.SERVICE, f"INSERT INTO t SELECT {_written(whole)} FROM pristine")
    whole.on(Side.SHARED, "DELETE FROM t")
    try:
        assert whole.diff().tables[0].missing_on_open == 603
    finally:
        whole.on(Side.SHARED, f"INSERT INTO t SELECT {_written(whole)} FROM pristine")


def test_values_are_stored_only_where_asked_for(whole: Sides) -> None:
    whole.on(Side.SERVICE, "UPDATE t SET name = NULL, place = NULL WHERE id = 3")
    (without,) = whole.found(whole.diff())
    assert (without.open_values, without.closed_values) == (None, None)
    shown = DiffOptions(range_rows=100, ranges_per_segment=2, leaf_rows=10, show_values=True)
    (found,) = whole.found(whole.diff(options=shown))
    assert found.columns == ("name", "place")
    assert (found.open_values, found.closed_values) == (("n3", "(,)"), (None, None))


def _written(sides: Sides) -> str:
    return ", ".join(c.name for c in sides.read(Side.SHARED)[sides.names[0]].written_columns)


def _computed(formula: str) -> tuple[str, str]:
    column = f"twice numeric GENERATED ALWAYS AS ({formula}) STORED"
    return "ALTER TABLE t DROP COLUMN twice", f"ALTER TABLE t ADD COLUMN {column}"
