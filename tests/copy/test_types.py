"""Values arrive as they were: every type, every format, under hostile settings of the roles."""

from __future__ import annotations

import pytest

from cdc.copy import CopyFailed, shape
from contexts.catalog import read_tables
from contexts.databases import Databases
from contexts.errors import SchemaMismatch
from contexts.model import TableName
from tests.copy.helpers import assert_same, both, context, cycle, execute, scalar

BUILTIN = """
CREATE TABLE public.builtin (
    id bigint PRIMARY KEY, i2 smallint, i4 int, o oid, f4 real, f8 double precision, n numeric, n2 numeric(20, 4),
    m money, t text, v varchar(20), c char(5), ch "char", nm name, b bytea, u uuid, bi bit(5), vb bit varying,
    d date, ti time, tz timetz, ts timestamp, tsz timestamptz, iv interval, j json, jb jsonb, ip inet, ci cidr,
    mac macaddr, p point, pa path, tv tsvector, tq tsquery, lsn pg_lsn, ai int[], at text[], an numeric[][],
    r int4range, nr numrange, tr tstzrange, mr int4multirange, flag boolean
)
"""
BUILTIN_ROWS = """
INSERT INTO public.builtin (id) VALUES (1);
INSERT INTO public.builtin VALUES (
    -9223372036854775808, -32768, 2147483647, 4294967295, '0.1', 0.1::float8 + 0.2, 'NaN', 1234567890.1234,
    '-12.34', E'tab\\t newline\\n backslash \\\\ \\\\. ''quote'' äöü 🐘', '', 'ab', 'x', 'some_name', '\\xdeadbeef00',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10101', '', '0044-03-15 BC', '24:00:00', '12:00:00.000001+05:30',
    'infinity', '-infinity', '1 year 2 mons -3 days 04:05:06.789', '{"a":  1, "a": 2}', '{"b": 1e400, "a": null}',
    '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', '(1.5,-0)', '[(0,0),(1,1)]', 'a:1 fat:2', 'fat & !rat', '16/B374D848',
    '{1,NULL,-3}', ARRAY['a,b', NULL, '', 'NULL', '{}', '"'], '{{1.10,2},{NaN,Infinity}}',
    '[1,5)', '(,1.5]', '["0044-03-15 00:00:00+00 BC",infinity)', '{[1,2),[5,9)}', true
);
INSERT INTO public.builtin (id, n, f8, f4, ts, d, iv, t)
VALUES (9223372036854775807, 'Infinity', '-Infinity', '-0', '4713-01-01 BC', 'infinity', '-178000000 years', E'\\\\N'),
       (-1, 1.10, 'NaN', 1e-45, '294276-12-31 23:59:59.999999', '5874897-12-31', '0', 'NULL')
"""
OWN = """
CREATE SCHEMA "Odd Schema";
CREATE TYPE public.mood AS ENUM ('sad', 'o''k', 'happy, very');
CREATE TYPE public.pair AS (a int, b public.mood, c text);
CREATE DOMAIN public.amount AS numeric(12, 2) CHECK (VALUE >= 0);
CREATE DOMAIN public.amounts AS public.amount[];
CREATE TYPE public.span AS RANGE (subtype = public.amount);
CREATE TABLE "Odd Schema"."Odd.Table, ""x"" y" (
    "ID" public.amount PRIMARY KEY, "select" public.mood, "a,b" public.mood[], pair public.pair, pairs public.pair[],
    "Pair" public.amounts, span public.span, "%s" regclass
)
"""
ODD = '"Odd Schema"."Odd.Table, ""x"" y"'


def test_builtin_types_travel_in_binary(pair: Databases) -> None:
    both(pair, BUILTIN)
    execute(pair.shared, BUILTIN_ROWS)
    assert _shape(pair, "public.builtin").binary
    assert cycle(pair, context("builtin")).finished
    assert_same(pair, "public.builtin")


def test_builtin_types_travel_in_text_where_a_column_has_another_type(pair: Databases) -> None:
    both(pair, BUILTIN)
    execute(pair.service, "ALTER TABLE builtin ALTER i4 TYPE bigint")
    execute(pair.shared, BUILTIN_ROWS)
    assert not _shape(pair, "public.builtin").binary
    assert cycle(pair, context("builtin")).finished
    assert_same(pair, "public.builtin")


def test_own_types_and_odd_names_travel_in_text(pair: Databases) -> None:
    execute(pair.service, "CREATE TYPE public.shifts_the_oids AS ENUM ('x')")
    both(pair, OWN)
    execute(
        pair.shared,
        f"""INSERT INTO {ODD} VALUES
        (0.5, 'o''k', '{{sad,"happy, very"}}', '(1,"happy, very","x,""y")', ARRAY[(1,'sad',NULL)::public.pair],
         '{{1.10,NULL}}', '[1.5,2)', 'pg_class'), (7, NULL, NULL, NULL, NULL, NULL, 'empty', NULL)""",
    )
    assert not _shape(pair, ODD).binary
    assert cycle(pair, context(ODD)).finished
    assert_same(pair, ODD)


def test_a_domain_over_a_builtin_type_travels_in_binary(pair: Databases) -> None:
    both(pair, "CREATE DOMAIN public.cents AS bigint CHECK (VALUE > 0); CREATE TABLE d (id public.cents PRIMARY KEY)")
    execute(pair.shared, "INSERT INTO d VALUES (1), (9223372036854775807)")
    assert _shape(pair, "public.d").binary
    assert cycle(pair, context("d")).finished
    assert_same(pair, "public.d")


@pytest.mark.parametrize("force_text", [False, True])
def test_settings_of_roles_and_databases_change_no_value(pair: Databases, force_text: bool) -> None:
    both(pair, BUILTIN)
    if force_text:
        execute(pair.service, "ALTER TABLE builtin ALTER i4 TYPE bigint")
    execute(pair.shared, BUILTIN_ROWS)
    for database, style in ((pair.shared, "SQL, DMY"), (pair.service, "German")):
        name = database.url.rsplit("/", 1)[1]
        settings = {
            "datestyle": style, "bytea_output": "escape", "intervalstyle": "iso_8601", "extra_float_digits": "0",
            "timezone": "Asia/Kolkata", "default_transaction_read_only": "on",
            "idle_in_transaction_session_timeout": "1",
        }  # fmt: skip
        if database is pair.service:  # PostgreSQL 18; the other has no such setting yet
            settings["transaction_timeout"] = "1h"
        for key, value in settings.items():
            execute(database, f"""ALTER DATABASE "{name}" SET {key} = '{value}'""")
    assert cycle(pair, context("builtin")).finished
    assert_same(pair, "public.builtin")


def test_generated_columns_are_computed_and_identities_kept(pair: Databases) -> None:
    both(
        pair,
        "CREATE TABLE g (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int,"
        " twice int GENERATED ALWAYS AS (a * 2) STORED, b int GENERATED BY DEFAULT AS IDENTITY)",
    )
    execute(pair.shared, "INSERT INTO g (a) SELECT generate_series(1, 9); DELETE FROM g WHERE id < 4")
    assert cycle(pair, context("g")).finished
    assert_same(pair, "public.g")


def test_columns_are_matched_by_name(pair: Databases) -> None:
    both(pair, "SELECT 1")
    execute(pair.shared, "CREATE TABLE t (a int, gone int, b text, id int PRIMARY KEY); ALTER TABLE t DROP gone")
    execute(pair.service, "CREATE TABLE t (id int PRIMARY KEY, b text, a int)")
    execute(pair.shared, "INSERT INTO t SELECT i, 'b' || i, -i FROM generate_series(1, 9) i")
    assert cycle(pair, context("t")).finished
    assert scalar(pair.service, "SELECT count(*) FROM public.t WHERE a = -id AND b = 'b' || a") == 9


@pytest.mark.parametrize(
    ("ddl", "problem"),
    [
        ("CREATE TABLE t (id int PRIMARY KEY)", "missing on the closed side: note"),
        ("CREATE TABLE t (id int PRIMARY KEY, note text, more int)", "only on the closed side: more"),
        ("SELECT 1", "the table is missing on the closed side"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_before_anything_is_planned(
    pair: Databases, ddl: str, problem: str
) -> None:
    both(pair, "SELECT 1")
    execute(pair.shared, "CREATE TABLE t (id int PRIMARY KEY, note text)")
    execute(pair.service, ddl)
    with pytest.raises(SchemaMismatch, match=f"public.t: {problem}"):
        cycle(pair, context("t"))
    assert scalar(pair.service, "SELECT count(*) FROM carveout.copy_part") == 0


def test_a_value_that_does_not_fit_is_refused_without_showing_it(pair: Databases) -> None:
    both(pair, "SELECT 1")
    execute(pair.shared, "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t VALUES (1, 'secret')")
    execute(pair.service, "CREATE TABLE t (id int PRIMARY KEY, note int)")
    with pytest.raises(CopyFailed, match=r"public\.t part 0: InvalidTextRepresentation \(22P02\) at note") as caught:
        cycle(pair, context("t"))
    assert "secret" not in "\n".join(caught.value.lines())
    assert scalar(pair.service, "SELECT count(*) FROM public.t") == 0


def test_a_row_far_larger_than_a_batch_travels_whole(pair: Databases) -> None:
    both(pair, "CREATE TABLE t (id int PRIMARY KEY, body text, blob bytea)")
    execute(pair.shared, "INSERT INTO t SELECT 1, repeat('äb', 3000000), decode(repeat('00ff', 2000000), 'hex')")
    execute(pair.shared, "INSERT INTO t VALUES (2, '', '')")
    assert cycle(pair, context("t")).finished
    query = "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM public.t"
    assert scalar(pair.service, query) == scalar(pair.shared, query)


def _shape(pair: Databases, table: str) -> shape.Shape:
    name = TableName.parse(table)
    with pair.shared.connect("test") as one, pair.service.connect("test") as other:
        return shape.match(read_tables(one, [name])[name], read_tables(other, [name])[name])
