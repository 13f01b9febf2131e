"""Random rows of all types: no false alarm between majors, and told apart exactly as their text tells them apart."""

from __future__ import annotations

import datetime as dt
import json
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from contexts.databases import Databases
from contexts.model import Side
from tests.validations.support import NewDatabase, Sides
from validations.diff.model import DiffOptions, Verdict

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
plain = st.text("abc '\"\\,{}()", max_size=6)
numbers = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=None)
micros = st.integers(-62_135_596_800_000_000 + 10**12, 253_402_300_799_999_999 - 10**12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=6,
)


def _array(items: Sequence[str | None]) -> str:
    quoted = ("NULL" if i is None else '"' + i.replace("\\", "\\\\").replace('"', '\\"') + '"' for i in items)
    return "{" + ",".join(quoted) + "}"


def _moment(value: int) -> str:
    return (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=value)).isoformat(sep=" ")


def _double(bits: int) -> str:
    return repr(struct.unpack("<d", struct.pack("<Q", bits))[0])


doubles = st.sampled_from(["0", "-0", "NaN", "Infinity", "-Infinity", "0.1", "5e-324"]) | st.integers(
    0, 2**64 - 1
).map(_double)  # fmt: skip
numerics = st.sampled_from(["NaN", "Infinity", "-Infinity", "0", "0.00", "-1.5", "1.50", "1e-300"]) | numbers.map(str)
moments = st.sampled_from(["infinity", "-infinity", "4713-01-01 00:00:00 BC"]) | micros.map(_moment)

#: Text forms by type; every column may be NULL, too.
TYPES: dict[str, st.SearchStrategy[str]] = {
    "bool": st.booleans().map(str),
    "int2": st.integers(-(2**15), 2**15 - 1).map(str),
    "int4": st.integers(-(2**31), 2**31 - 1).map(str),
    "int8": st.integers(-(2**63), 2**63 - 1).map(str),
    "numeric": numerics,
    "numeric(20,4)": st.integers(-(10**19), 10**19).map(lambda n: f"{n}e-4"),
    "float4": st.floats(width=32).map(str),
    "float8": doubles,
    "text": text,
    "varchar(30)": text,
    "bpchar": text,
    "char(22)": text,
    "name": plain,
    '"char"': st.sampled_from(["", "a", "Z"]),
    "bytea": st.binary(max_size=12).map(lambda b: "\\x" + b.hex()),
    "uuid": st.uuids().map(str),
    "date": st.sampled_from(["infinity", "0044-03-15 BC"]) | st.dates().map(str),
    "time": st.times().map(str),
    "timetz": st.tuples(st.times().map(str), st.sampled_from(["+00", "-03:30", "+05:45"])).map("".join),
    "timestamp": moments,
    "timestamptz": moments,
    "interval": st.tuples(st.integers(-99, 99), st.integers(-99, 99), st.integers(-(10**9), 10**9)).map(
        lambda i: f"{i[0]} mon {i[1]} day {i[2]} microsecond"
    ),
    "json": values.map(json.dumps) | values.map(lambda v: json.dumps(v, indent=1)),
    "jsonb": values.map(json.dumps),
    "int4[]": st.lists(st.none() | st.integers(-9, 9), max_size=4).map(
        lambda v: _array([None if i is None else str(i) for i in v])
    ),
    "text[]": st.lists(st.none() | plain, max_size=3).map(_array),
    "public.mood[]": st.lists(st.sampled_from(["calm", "tense"]), max_size=3).map(_array),
    "public.mood": st.sampled_from(["calm", "tense"]),
    "public.place": st.sampled_from(["(,)", "(x,)", "(x,1)", '("",1)']),
    "public.cents": st.integers(-(2**63), 2**63 - 1).map(str),
    "int4range": st.tuples(st.integers(-9, 0), st.integers(1, 9)).map(lambda r: f"[{r[0]},{r[1]})"),
    "nummultirange": st.sampled_from(["{}", "{[1,2)}", "{[1.0,2)}", "{[1,2),[3,)}"]),
    "inet": st.ip_addresses().map(str) | st.sampled_from(["10.0.0.1/8", "::1/64"]),
    "cidr": st.sampled_from(["10.0.0.0/8", "::/64"]),
    "macaddr": st.just("08:00:2b:01:02:03"),
    "bit(4)": st.sampled_from(["0000", "1010"]),
    "varbit": st.text("01", max_size=9),
    "money": st.integers(-(10**6), 10**6).map(str),
    "point": st.tuples(doubles, doubles).map(lambda p: f"({p[0]},{p[1]})"),
    "tsvector": st.text("abc ", max_size=9),
    "pg_lsn": st.integers(0, 2**32 - 1).map(lambda n: f"0/{n:X}"),
}
COLUMNS = {f"c{n}": type_sql for n, type_sql in enumerate(TYPES)}
rows = st.tuples(*(st.none() | strategy for strategy in TYPES.values()))
SETUP = (
    "CREATE TYPE mood AS ENUM ('calm', 'tense')",
    "CREATE TYPE place AS (street text, number int)",
    "CREATE DOMAIN cents AS int8",
    f"CREATE TABLE t (k int PRIMARY KEY, {', '.join(f'{name} {type_sql}' for name, type_sql in COLUMNS.items())})",
)
RELAXED = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large,
                           HealthCheck.large_base_example],
)  # fmt: skip


@pytest.fixture(params=[(14, 17), (15, 18), (16, 18)], ids=lambda m: f"{m[0]}-{m[1]}")
def sides(request: pytest.FixtureRequest, new_database: NewDatabase) -> Sides:
    majors = request.param
    databases = Databases(new_database(majors[0], Side.SHARED), new_database(majors[1], Side.SERVICE))
    sides = Sides(databases, options=DiffOptions(range_rows=4, ranges_per_segment=3, leaf_rows=2))
    sides.on(Side.SERVICE, "CREATE TABLE shift_oids_of_types (a int)")
    sides.both(*SETUP)
    return sides


@RELAXED
@given(data=st.lists(rows, min_size=1, max_size=12))
def test_no_false_alarm(sides: Sides, data: list[tuple[str | None, ...]]) -> None:
    for side in Side:
        _load(sides, side, data)
    result = sides.diff()
    assert (result.verdict, result.rows) == (Verdict.EQUAL, len(data)), sides.found(result)


@RELAXED
@given(one=rows, other=rows, mask=st.integers(0, 2 ** len(TYPES) - 1))
def test_rows_are_told_apart_as_their_text_is(sides: Sides, one: Any, other: Any, mask: int) -> None:
    mixed = tuple(b if mask >> n & 1 else a for n, (a, b) in enumerate(zip(one, other, strict=True)))
    _load(sides, Side.SHARED, [one, mixed])
    differing = _differing_by_text(sides)
    _load(sides, Side.SHARED, [one])
    _load(sides, Side.SERVICE, [mixed])
    found = sides.found(sides.diff())
    assert {column for d in found for column in d.columns} == differing
    assert len(found) == bool(differing)


def _load(sides: Sides, side: Side, data: list[tuple[str | None, ...]]) -> None:
    casts = sql.SQL(", ").join(sql.SQL("%s::text::{}").format(sql.SQL(t.replace("%", "%%"))) for t in COLUMNS.values())
    insert = sql.SQL("INSERT INTO public.t VALUES (%s, {})").format(casts)
    with sides.databases[side].connect("test") as conn, conn.transaction(), conn.cursor() as cursor:
        cursor.execute("DELETE FROM public.t")
        cursor.executemany(insert, [(n, *row) for n, row in enumerate(data)])


def _differing_by_text(sides: Sides) -> set[str]:
    with sides.databases.shared.connect("test") as conn:
        ours, theirs = conn.execute(
            sql.SQL("SELECT {} FROM public.t ORDER BY k").format(
                sql.SQL(", ").join(
                    sql.SQL("ARRAY[num_nulls({0})::text, concat({0})]").format(sql.Identifier(name)) for name in COLUMNS
                )
            )
        ).fetchall()
    return {name for name, a, b in zip(COLUMNS, ours, theirs, strict=True) if a != b}
