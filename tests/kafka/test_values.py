"""Texts made here are the server's own, for any value."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.kafka.decoder import composed, numbers, times
from contexts.databases import Connection, Database
from contexts.model import Side

SERVER = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
finite = st.floats(allow_nan=False, allow_infinity=False)
singles = st.floats(width=32, allow_nan=False, allow_infinity=False)
powers = st.integers(-1074, 1023).map(lambda e: math.ldexp(1.0, e))


@pytest.fixture
def conn(new_database: Callable[[int, Side], Database]) -> Iterator[Connection]:
    with new_database(16, Side.SHARED).connect("test") as conn:
        yield conn


def server(conn: Connection, expression: str, values: list[object], type_sql: str) -> list[bytes]:
    """The server's text of an expression over each value."""
    rows = conn.execute(
        f"SELECT ({expression})::text FROM unnest(%s::{type_sql}[]) WITH ORDINALITY AS u(v, o) ORDER BY o".encode(),
        [values],
    )
    return [row[0].encode() for row in rows]


@SERVER
@given(values=st.lists(finite | powers | st.integers(-(2**63), 2**63).map(float), min_size=50, max_size=200))
def test_doubles(conn: Connection, values: list[object]) -> None:
    assert [numbers.float8(v) for v in values] == server(conn, "v", values, "float8")


@SERVER
@given(values=st.lists(singles | st.integers(-149, 127).map(lambda e: math.ldexp(1.0, e)), min_size=50, max_size=200))
def test_singles(conn: Connection, values: list[object]) -> None:
    assert [numbers.float4(v) for v in values] == server(conn, "v::float4", values, "float8")


def test_the_middle_between_two_doubles_is_no_shortest_text() -> None:
    assert numbers.float8(1e23) == b"9.999999999999999e+22"
    assert numbers.float8(json.loads("-1.0E23")) == b"-9.999999999999999e+22"
    # At a power of two the interval is wider above: the shortest text is not the nearest.
    assert numbers.float4(2.0**-96) == b"1.2621775e-29"


@SERVER
@given(days=st.lists(st.integers(-2_440_550, 2_145_042_905), min_size=50, max_size=200))
def test_dates(conn: Connection, days: list[object]) -> None:
    assert [times.date(d) for d in days] == server(conn, "'epoch'::date + v", days, "int")


@SERVER
@given(values=st.lists(st.integers(-210_863_520_000_000_000, 9_223_285_000_000_000_000), min_size=50, max_size=200))
def test_timestamps(conn: Connection, values: list[int]) -> None:
    expression = (
        "'epoch'::timestamp + make_interval(days => (v / 86400000000)::int) + (v %% 86400000000) * interval '1 us'"
    )
    assert [times.timestamp(1, v) for v in values] == server(conn, expression, [*values], "int8")


fields = st.integers(-(2**31) + 1, 2**31 - 1)


@SERVER
@given(values=st.lists(st.tuples(fields, fields, st.integers(-(10**15), 10**15)), min_size=20, max_size=100))
def test_intervals(conn: Connection, values: list[tuple[int, int, int]]) -> None:
    written = [times.interval(_iso(*value)) for value in values]
    rows = conn.execute(
        "SELECT (make_interval(months => m, days => d) + u * interval '1 us')::text"
        " FROM unnest(%s::int[], %s::int[], %s::int8[]) WITH ORDINALITY AS x(m, d, u, o) ORDER BY o",
        [list(column) for column in zip(*values, strict=True)],
    )
    assert written == [row[0].encode() for row in rows]


def _iso(months: int, days: int, us: int) -> str:
    """As Debezium writes it: the parts of years and months, and of the time, each with the sign of the whole."""
    sign, span = (-1 if months < 0 else 1), abs(us)
    minus = "-" if us < 0 else ""
    hours, minutes, seconds = span // 3_600_000_000, span // 60_000_000 % 60, span // 1_000_000 % 60
    fraction = f".{span % 1_000_000:06d}".rstrip("0").rstrip(".")
    return (
        f"P{sign * (abs(months) // 12)}Y{sign * (abs(months) % 12)}M{days}D"
        f"T{minus if hours else ''}{hours}H{minus if minutes else ''}{minutes}M{minus}{seconds}{fraction}S"
    )


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@SERVER
@given(values=st.lists(st.lists(texts | st.none() | st.sampled_from(["NULL", "null", "", " ", "{", "a,b", '"', "\\"]))))
def test_text_arrays(conn: Connection, values: list[list[str | None]]) -> None:
    for value in values:
        row = conn.execute("SELECT %s::text[]::text", [value]).fetchone()
        assert row is not None
        assert composed.array(composed.text)(value) == row[0].encode()


@SERVER
@given(cents=st.integers(-(2**63), 2**63 - 1))
def test_money(conn: Connection, cents: int) -> None:
    sent = f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"
    row = conn.execute("SELECT %s::numeric::money::text", [sent]).fetchone()
    assert row is not None
    assert numbers.money(sent) == row[0].encode()


@given(value=st.integers(0, 2**70 - 1))
def test_bits(value: int) -> None:
    text = f"{value:070b}"
    sent = base64.b64encode(value.to_bytes(9, "little").rstrip(b"\0")).decode()
    assert numbers.bits(70, sent) == text.encode()


@pytest.mark.parametrize(
    ("decode", "value"),
    [
        (numbers.integer, True), (numbers.integer, 1.0), (numbers.integer, "1"), (numbers.boolean, 1),
        (numbers.float8, "nan"), (numbers.float8, True), (numbers.float4, 1e39), (numbers.numeric, "1e5"),
        (numbers.numeric, "NaN"), (numbers.numeric, 1.5), (numbers.numeric_of_negative_scale, "1.5"),
        (numbers.money, "1.5"),
        (times.date, 2_145_042_906), (times.date, -2_500_000), (times.date, "2024-01-01Z"),
        (times.timestamptz, "2024-01-01T00:00:00+01:00"), (times.timestamptz, "+292269055-12-02T23:00:00.000000Z"),
        (times.timestamptz, "2024-01-01T00:00:00.1234567Z"),
        (lambda v: times.timestamp(1, v), -9223372036853775810), (lambda v: times.timestamp(1, v), 2**63 - 1),
        (lambda v: times.time(1, v), 86_400_000_001), (lambda v: times.time(1, v), -1), (times.interval, 5),
        (composed.text, 5), (composed.array(composed.text), ["[Ljava.lang.String;@37f7aa26"]),
        (composed.binary("bytes"), "@"), (composed.utc_text, '["2024-01-01 05:30:00+05:30",infinity)'),
        (lambda v: numbers.bits(3, v), "/w=="),
    ],
)  # fmt: skip
def test_what_is_not_of_the_type_is_no_value(decode: Callable[[object], bytes], value: object) -> None:
    with pytest.raises((ValueError, OverflowError)):
        decode(value)
