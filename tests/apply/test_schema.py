"""DDL on the open side stops the stream before a row is written that does not fit."""

from __future__ import annotations

import re

import pytest

from contexts.errors import SchemaMismatch
from tests.apply.conftest import World

TABLE = "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, v varchar(9), m mood)"


@pytest.mark.parametrize(
    ("shared", "service", "said"),
    [
        ("ALTER TABLE t ADD c int", "", "'c' is missing on the closed side"),
        ("ALTER TABLE t RENAME v TO w", "", "'w' is missing"),
        ("ALTER TABLE t ALTER v TYPE varchar(20)", "", r"'v' is character varying\(20\) .* character varying\(9\)"),
        ("ALTER TABLE t ALTER id TYPE bigint", "", "'id' is bigint on the open side and integer on the closed"),
        ("ALTER TABLE t ALTER m TYPE text", "", "'m' is text on the open side and public.mood on the closed"),
        (
            "CREATE TYPE mode AS ENUM ('sad', 'ok'); ALTER TABLE t ALTER m TYPE mode USING 'ok'",
            "",
            "'m' is public.mode",
        ),
        ("ALTER TABLE t ADD c mood[]", "ALTER TABLE t ADD c mood", r"'c' is public.mood\[\]"),
        ("", "ALTER TABLE t ADD c int NOT NULL", "'c' is NOT NULL without a default"),
        ("", "DROP TABLE t", "missing on the closed side"),
    ],
)
def test_a_table_that_does_not_fit_stops_the_stream(world: World, shared: str, service: str, said: str) -> None:
    world.both(TABLE)
    applier = world.start("t")
    world.write("INSERT INTO t VALUES (1, 'a', 'ok')")
    if shared:
        world.replicate()
    durable = applier.position
    for conn, statement in ((world.shared, shared), (world.service, service)):
        conn.execute("SET search_path = public")
        conn.execute(statement or "SELECT")
        conn.execute("SET search_path = pg_catalog")
    world.shared.execute("INSERT INTO public.t (id) VALUES (2)")
    with pytest.raises(SchemaMismatch, match=said) as raised:
        world.replicate()
    assert "public.t" in raised.value.message
    assert "carveout schema upgrade wallet" in raised.value.next_step
    assert world.open().position == durable


def test_the_stream_goes_on_after_the_revision(world: World) -> None:
    world.both(TABLE)
    world.start("t")
    world.write("INSERT INTO t VALUES (1, 'a', 'ok')")
    world.shared.execute("ALTER TABLE public.t ADD c int")
    world.write("INSERT INTO t VALUES (2, 'b', 'ok', 5)")
    transactions = world.read()
    world.applier.apply(transactions[0])
    with pytest.raises(SchemaMismatch):
        world.applier.apply(transactions[1])
    assert world.rows(world.service, "public.t") == []
    world.service.execute("ALTER TABLE public.t ADD c int")
    world.open()
    for transaction in transactions:
        world.applier.apply(transaction)
    world.applier.commit()
    assert len(world.same()) == 2


def test_a_changed_relation_in_mid_batch_does_not_overtake(world: World) -> None:
    world.both(TABLE + "; ALTER TABLE t ADD c int")
    world.shared.execute("ALTER TABLE public.t DROP c")
    world.start("t")
    world.write("INSERT INTO t SELECT i, 'a', 'ok' FROM generate_series(1, 9) i")
    world.write("ALTER TABLE t ADD c int", "UPDATE t SET v = 'b', c = id WHERE id < 5", "DELETE FROM t WHERE id = 9")
    world.write("INSERT INTO t VALUES (9, 'again', 'sad', 1)", "UPDATE t SET id = 90 WHERE id = 1")
    world.replicate()
    assert len(world.same()) == 9


def test_columns_of_the_service_alone_keep_their_values(world: World) -> None:
    world.both(TABLE)
    world.start("t")
    world.service.execute("ALTER TABLE public.t ADD note text DEFAULT 'n', ADD seq int GENERATED ALWAYS AS IDENTITY")
    world.write("INSERT INTO t SELECT i, 'a', 'ok' FROM generate_series(1, 9) i")
    world.replicate()
    world.service.execute("UPDATE public.t SET note = 'kept ' || id")
    world.write("UPDATE t SET v = 'b' WHERE id < 3", "UPDATE t SET id = id + 10 WHERE id > 6")
    world.replicate()
    world.same(columns="id, v, m")
    kept = world.service.execute("SELECT count(*) FROM public.t WHERE note = 'kept ' || seq").fetchone()
    assert kept == (9,)


def test_generated_columns_are_left_to_the_service(world: World) -> None:
    world.both(
        "CREATE TABLE t (a int, g int GENERATED ALWAYS AS (a * 2) STORED, id int PRIMARY KEY, b text);"
        "CREATE TABLE u (id int PRIMARY KEY, g int)"
    )
    world.service.execute("ALTER TABLE public.u DROP g, ADD g int GENERATED ALWAYS AS (id * 3) STORED")
    world.start("t", "u")
    world.write("INSERT INTO t (a, id, b) SELECT i, i, 'x' FROM generate_series(1, 6) i")
    world.write("INSERT INTO u SELECT i, i * 3 FROM generate_series(1, 6) i")
    world.replicate()
    world.write(
        "UPDATE t SET a = 50 WHERE id < 3", "UPDATE t SET id = 9 WHERE id = 6", "UPDATE u SET g = 3 WHERE id = 1"
    )
    world.replicate()
    assert len(world.same()) == 12


def test_a_table_of_another_context_is_refused(world: World) -> None:
    world.both("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)")
    world.start("t")
    world.shared.execute("ALTER PUBLICATION p ADD TABLE public.other")
    world.write("INSERT INTO other VALUES (1)")
    with pytest.raises(SchemaMismatch, match="neither in the context nor a partition"):
        world.replicate()


def test_partitions_at_any_depth(world: World) -> None:
    world.both(
        "CREATE TABLE t (id int, k text, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);"
        "CREATE TABLE a PARTITION OF t FOR VALUES IN ('a');"
        "CREATE TABLE b PARTITION OF t FOR VALUES IN ('b') PARTITION BY RANGE (id);"
        "CREATE TABLE b1 PARTITION OF b FOR VALUES FROM (0) TO (100);"
        "CREATE TABLE b2 PARTITION OF b FOR VALUES FROM (100) TO (200)"
    )
    world.start("t")
    world.write("INSERT INTO t SELECT i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, 'v' FROM generate_series(1, 20) i")
    world.replicate()
    world.write("UPDATE t SET k = 'b' WHERE id < 9", "UPDATE t SET id = id + 100 WHERE k = 'b' AND id > 15")
    world.write("TRUNCATE b2", "INSERT INTO t VALUES (101, 'b', 'new')")
    world.replicate()
    assert len(world.same("public.t", "public.a", "public.b1", "public.b2")) > 20


@pytest.mark.parametrize(
    ("shared", "service", "said"),
    [
        ("CREATE DOMAIN d AS numeric(12,2)", "CREATE DOMAIN d AS numeric(12,1)",
         r"public.d over numeric\(12,2\) on the open side and public.d over numeric\(12,1\)"),
        ("CREATE DOMAIN d AS text", "CREATE DOMAIN d AS varchar(5)", r"public.d over text .* varying\(5\)"),
        ("CREATE DOMAIN e AS int; CREATE DOMAIN d AS e", "CREATE DOMAIN e AS bigint; CREATE DOMAIN d AS e",
         "public.d over public.e over integer on"),
        ("CREATE DOMAIN d AS int", "CREATE TYPE d AS ENUM ('1')", "public.d over integer on .* and public.d on"),
        ("CREATE TYPE d AS ENUM ('1')", "CREATE TYPE d0 AS ENUM ('1')", "public.d on the open side and public.d0 on"),
        ("CREATE TYPE d AS (a int)", "CREATE TYPE d0 AS (a int)",
         "public.d with a integer on the open side and public.d0 with a integer on"),
        ("CREATE TYPE d AS RANGE (subtype = int)", "CREATE TYPE d0 AS RANGE (subtype = int)",
         "public.d over integer on .* public.d0"),
        ("CREATE TYPE d AS RANGE (subtype = int)", "CREATE TYPE d AS RANGE (subtype = bigint)",
         "public.d over integer on .* public.d over bigint on"),
        ("CREATE TYPE d AS (a int, b text)", "CREATE TYPE d AS (a numeric, b text)",
         "public.d with a integer with b text on .* public.d with a numeric with b text on"),
        ("CREATE TYPE d AS (a int, b text)", "CREATE TYPE d AS (b text, a int)",
         "public.d with a integer with b text on .* public.d with b text with a integer on"),
        ("CREATE DOMAIN e AS numeric(9,2); CREATE TYPE d AS (x e[])",
         "CREATE DOMAIN e AS numeric(9,1); CREATE TYPE d AS (x e[])",
         r"public.d with x public.e\[\] over numeric\(9,2\) on"),
    ],
)  # fmt: skip
def test_types_of_users_are_compared_with_what_is_under_them(
    world: World, shared: str, service: str, said: str
) -> None:
    for conn, types in ((world.shared, shared), (world.service, service)):
        own = "d0" if " d0 " in types else "d"
        conn.execute(f"SET search_path = public; {types}; CREATE TABLE t (id int PRIMARY KEY, v {own}, w {own}[])")
        conn.execute("SET search_path = pg_catalog")
    world.start("t")
    world.write("INSERT INTO t (id) VALUES (1)")
    arrays = re.sub(r"public\.d0?", r"\g<0>\\[\\]", said)
    with pytest.raises(SchemaMismatch, match=f"'v' is {said}.*'w' is {arrays}"):
        world.replicate()


def test_a_type_that_was_dropped_meanwhile_stops_nothing(world: World) -> None:
    world.both(TABLE)
    world.start("t")
    world.write("INSERT INTO t VALUES (1, 'a', 'ok')")
    world.write("ALTER TABLE t ALTER m TYPE text", "DROP TYPE mood")
    world.write("INSERT INTO t VALUES (2, 'b', 'so so')")
    before, *_, after = world.read()
    world.applier.apply(before)
    world.applier.commit()
    with pytest.raises(SchemaMismatch, match=r"'m' is text on .* public.mood on the closed"):
        world.applier.apply(after)
    world.service.execute("ALTER TABLE public.t ALTER m TYPE text")
    world.open()
    world.applier.apply(after)
    world.applier.commit()
    assert len(world.same()) == 2
