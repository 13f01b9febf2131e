"""Row images and values on which other movers lost data."""

from __future__ import annotations

import pytest

from tests.apply.conftest import World

pytestmark = pytest.mark.usefixtures("path")
BIG = "repeat(md5(random()::text), 500)"  # 16 kB, kept out of line: an update that leaves it alone does not log it
STORE = "ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL"


def test_an_unchanged_toast_value_stays(world: World) -> None:
    world.both(f"CREATE TABLE t (id int PRIMARY KEY, n int, big text); {STORE}")
    world.start("t")
    world.write(f"INSERT INTO t SELECT i, i, {BIG} FROM generate_series(1, 5) i")
    world.replicate()
    world.write(
        "UPDATE t SET n = n + 1", "UPDATE t SET n = n * 2 WHERE id > 2", f"UPDATE t SET big = {BIG} WHERE id = 3"
    )
    world.replicate()
    assert len(world.same()) == 5


def test_an_unchanged_toast_value_is_taken_from_an_earlier_change_of_the_batch(world: World) -> None:
    world.both(f"CREATE TABLE t (id int PRIMARY KEY, n int, big text); {STORE}")
    world.start("t")
    world.write(f"INSERT INTO t SELECT i, i, {BIG} FROM generate_series(1, 5) i", "UPDATE t SET n = 7 WHERE id < 3")
    world.write(f"UPDATE t SET big = {BIG} WHERE id = 1", "UPDATE t SET n = 8 WHERE id = 1")
    world.write("UPDATE t SET id = id + 100")
    world.replicate()
    assert len(world.same()) == 5
    assert world.applier.fallbacks == 0


def test_a_full_old_image_fills_the_new_one(world: World) -> None:
    world.both(f"CREATE TABLE t (id int PRIMARY KEY, n int, big text); {STORE}; ALTER TABLE t REPLICA IDENTITY FULL")
    world.start("t")
    world.write(f"INSERT INTO t SELECT i, i, {BIG} FROM generate_series(1, 5) i")
    world.replicate()
    world.write("UPDATE t SET n = 7", "UPDATE t SET id = id + 10 WHERE id < 3", "DELETE FROM t WHERE id = 4")
    world.replicate()
    assert len(world.same()) == 4


def test_nulls_of_a_key_image_do_not_mean_null(world: World) -> None:
    world.both("CREATE TABLE t (id int PRIMARY KEY, a text, b text)")
    world.start("t")
    world.write("INSERT INTO t VALUES (1, 'a', 'b'), (2, 'c', 'd'), (3, 'e', null)")
    world.replicate()
    world.write("UPDATE t SET id = 10 WHERE id = 1", "DELETE FROM t WHERE id = 2")
    world.replicate()
    assert world.same() == [b"10\ta\tb\n", b"3\te\t\\N\n"]


def test_a_toasted_key_that_did_not_change_comes_from_the_old_image(world: World) -> None:
    world.both("CREATE TABLE t (k text PRIMARY KEY, n int); ALTER TABLE t ALTER COLUMN k SET STORAGE EXTERNAL")
    world.start("t")
    world.write("INSERT INTO t SELECT repeat(chr(64 + i), 2400), i FROM generate_series(1, 4) i")
    world.replicate()
    world.write("UPDATE t SET n = n * 2", "DELETE FROM t WHERE n = 4")
    world.replicate()
    assert len(world.same()) == 3


def test_a_changed_key_leaves_no_row_behind(world: World) -> None:
    world.both("CREATE TABLE t (a int, b text, v text, PRIMARY KEY (b, a))")
    world.start("t")
    world.write("INSERT INTO t SELECT i, 'k' || i, 'v' FROM generate_series(1, 9) i")
    world.replicate()
    world.write("UPDATE t SET b = b || 'x' WHERE a < 5", "UPDATE t SET a = a + 100, v = null WHERE a > 7")
    world.replicate()
    assert len(world.same()) == 9


def test_a_changed_key_with_an_unchanged_toast_value_keeps_it(world: World) -> None:
    world.both(f"CREATE TABLE t (id int PRIMARY KEY, n int, big text); {STORE}")
    world.start("t")
    world.write(f"INSERT INTO t SELECT i, i, {BIG} FROM generate_series(1, 6) i")
    world.replicate()
    world.write("UPDATE t SET n = 0 WHERE id = 2", "UPDATE t SET id = id + 100 WHERE id < 4", "UPDATE t SET n = n + 1")
    world.replicate()
    assert len(world.same()) == 6


def test_full_identity_without_key_finds_nulls_and_takes_one_of_equal_rows(world: World) -> None:
    world.both("CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL")
    world.start("t")
    world.write("INSERT INTO t VALUES (1, null), (1, null), (1, null), (null, 'x'), (null, 'x'), (null, null)")
    world.replicate()
    world.write("DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE a = 1)")
    world.write("UPDATE t SET b = 'y' WHERE ctid = (SELECT min(ctid) FROM t WHERE b = 'x')")
    world.write("DELETE FROM t WHERE a IS NULL AND b IS NULL", "INSERT INTO t VALUES (1, null)")
    world.replicate()
    assert world.same() == [b"1\t\\N\n"] * 3 + [b"\\N\tx\n", b"\\N\ty\n"]


def test_full_identity_without_key_tells_values_apart_that_are_equal_or_cannot_be_compared(world: World) -> None:
    world.both(
        "CREATE TABLE t (j json, x text, p point, b box, f float8, n numeric, i interval, c char(4), o bool, h inet);"
        "ALTER TABLE t REPLICA IDENTITY FULL"
    )
    world.start("t")
    rows = [
        """('{"a":1}', '<a/>', '(1,2)', '(3,4),(1,2)', '0', '1.0', '1 mon', 'ab', true, '10.0.0.1')""",
        """('{"a": 1}', '<a/>', '(1,2)', '(3,4),(1,2)', '-0', '1.00', '30 days', 'ab', true, '10.0.0.1')""",
        """('{"a": 1}', '<a />', '(1,2)', '(3,4),(1,2)', 'NaN', 'NaN', '720:00', '', false, '10.0.0.1/8')""",
    ]
    world.write(*(f"INSERT INTO t VALUES {row}" for row in rows))
    world.replicate()
    world.write("DELETE FROM t WHERE n::text = '1.00'", "UPDATE t SET i = null WHERE f::text = '0'")
    world.write("DELETE FROM t WHERE o = false")
    world.replicate()
    assert len(world.same()) == 1


def test_null_words_empty_strings_and_hex_are_what_they_are(world: World) -> None:
    world.both("CREATE TABLE t (id int PRIMARY KEY, a text, b bytea)")
    world.start("t")
    world.write(
        r"""INSERT INTO t VALUES (1, 'null', ''), (2, '', null), (3, null, '\x5c7800ff'), (4, '\N', '\x'),
            (5, E'a\tb\nc\r\\.', '\x5c4e'), (6, '\.', 'NULL'), (7, E'\\x41', E'\\\\'), (8, 'ÿþý 🐘', '\xfffefd')"""
    )
    world.replicate()
    world.write(r"UPDATE t SET a = a || '\' WHERE a IS NOT NULL", "DELETE FROM t WHERE a = ''")
    world.replicate()
    assert len(world.same()) == 8


def test_numbers_and_json_are_never_read(world: World) -> None:
    world.both("CREATE TABLE t (id bigint PRIMARY KEY, n numeric, f float8, r real, j json, b jsonb)")
    world.start("t")
    world.write(
        """INSERT INTO t VALUES (2129020, 1.10, 0.1::float8 + 0.2, 1.1, '{"b" : 1, "a":1, "b":2}', '{"n": 1.10}'),
           (9223372036854775807, 'NaN', 'Infinity', '-0', '9007199254740993', '12345678901234567890.10'),
           (3, '1e100'::numeric, 5e-324, '1e-45', 'null', 'null')"""
    )
    world.replicate()
    world.write("UPDATE t SET n = n * 1.0")
    world.replicate()
    assert len(world.same()) == 3


def test_identity_always_is_written_and_never_named_by_an_update(world: World) -> None:
    world.both(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);"
        "CREATE TABLE u (code text PRIMARY KEY, id int GENERATED ALWAYS AS IDENTITY, v text)"
    )
    world.start("t", "u")
    world.write("INSERT INTO t (v) SELECT 'a' FROM generate_series(1, 6)")
    world.write("INSERT INTO u (code, v) SELECT i, 'a' FROM generate_series(1, 6) i")
    world.replicate()
    world.write(
        "UPDATE t SET v = 'b' WHERE id < 3", "UPDATE t SET id = DEFAULT WHERE id = 4", "DELETE FROM t WHERE id = 5"
    )
    world.write("UPDATE u SET v = 'b' WHERE id < 3")
    world.write("UPDATE u SET id = DEFAULT WHERE code = '4'", "UPDATE u SET code = 'x' WHERE code = '5'")
    world.replicate()
    assert len(world.same()) == 11


def test_updates_that_change_nothing_or_have_nothing_to_set(world: World) -> None:
    world.both("CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE u (id int PRIMARY KEY, v text)")
    world.start("t", "u")
    world.write("INSERT INTO t VALUES (1, 1), (1, 2)", "INSERT INTO u VALUES (1, 'a')")
    world.replicate()
    world.write("UPDATE t SET a = a", "UPDATE u SET v = v")
    world.replicate()
    assert len(world.same()) == 3


def test_enum_composite_domain_and_text_keys(world: World) -> None:
    world.both(
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s'); CREATE TYPE pair AS (a int, b text);"
        "CREATE DOMAIN code AS varchar(5) CHECK (value <> 'bad'); CREATE DOMAIN ten AS numeric(10, 2);"
        'CREATE TABLE t (m mood, p pair, c code, d char(3), n ten, b bit(3), k varchar(9) COLLATE "C", v text,'
        " PRIMARY KEY (m, p, c, d, n, b, k))"
    )
    world.start("t")
    world.write(
        "INSERT INTO t SELECT m, ROW(i, 'a,\"b')::pair, 'c' || i, 'd', i, i::bit(3), 'k%s', 'v'"
        " FROM unnest(enum_range(null::mood)) m, generate_series(1, 4) i"
    )
    world.replicate()
    world.write("UPDATE t SET v = 'w' WHERE n < 3", "DELETE FROM t WHERE m = 'sad' AND n = 3")
    world.write("UPDATE t SET m = 'sad' WHERE m = 'ok' AND n = 3", "UPDATE t SET d = 'dd', n = 9 WHERE n = 4")
    world.replicate()
    assert len(world.same()) == 11


def test_a_unique_value_that_moves_between_rows(world: World, path: str) -> None:
    world.both("CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE)")
    world.start("t")
    world.write("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 6) i")
    world.replicate()
    world.write(
        "UPDATE t SET u = 'x' WHERE id = 1", "UPDATE t SET u = 'v1' WHERE id = 2", "UPDATE t SET u = 'v2' WHERE id = 1",
        "DELETE FROM t WHERE id = 3", "INSERT INTO t VALUES (9, 'v3')",
    )  # fmt: skip
    world.replicate()
    assert len(world.same()) == 6
    assert world.applier.fallbacks == (path == "fast")


def test_insert_delete_insert_of_one_key(world: World) -> None:
    world.both("CREATE TABLE t (id int PRIMARY KEY, v text)")
    world.start("t")
    world.write("INSERT INTO t VALUES (1, 'there')")
    world.replicate()
    world.write(
        "INSERT INTO t VALUES (2, 'a')", "DELETE FROM t WHERE id = 2", "INSERT INTO t VALUES (2, 'b')",
        "UPDATE t SET v = v || '!' WHERE id = 2", "DELETE FROM t WHERE id = 1", "INSERT INTO t VALUES (1, 'again')",
        "INSERT INTO t VALUES (3, 'gone')", "UPDATE t SET v = '' WHERE id = 3", "DELETE FROM t WHERE id = 3",
    )  # fmt: skip
    world.replicate()
    assert world.same() == [b"1\tagain\n", b"2\tb!\n"]


def test_odd_names(world: World) -> None:
    table = '"Odd, ""T"" %s $1"."a.b%"'
    world.both(
        'CREATE SCHEMA "Odd, ""T"" %s $1";'
        f'CREATE TABLE {table} ("Id" int, "id" int, "a,b" text, "100%" text, "%s" text, "q""x" text,'
        ' "$1" text, "{}" text, PRIMARY KEY ("id", "Id"))'
    )
    world.start(table)
    world.write(f"INSERT INTO {table} SELECT i, -i, 'a', 'b', 'c', 'd', 'e', 'f' FROM generate_series(1, 6) i")
    world.replicate()
    world.write(
        f'UPDATE {table} SET "a,b" = \'x\', "100%" = \'y\' WHERE "Id" < 3', f'DELETE FROM {table} WHERE "Id" = 3',
        f'UPDATE {table} SET "id" = 50, "{{}}" = null WHERE "Id" = 4',
    )  # fmt: skip
    world.replicate()
    assert len(world.same(table)) == 5


def test_settings_of_the_role_do_not_reach_the_values(world: World) -> None:
    world.both("CREATE TABLE t (id int PRIMARY KEY, d timestamptz, i interval, f float8, b bytea)")
    for conn in (world.shared, world.service):
        for setting in (
            "datestyle='SQL, DMY'",
            "intervalstyle=iso_8601",
            "extra_float_digits=0",
            "timezone='Asia/Kolkata'",
        ):
            conn.execute(f"ALTER ROLE postgres SET {setting}")
        conn.execute("ALTER ROLE postgres SET bytea_output = escape")
    try:
        world.start("t")
        world.write(
            "INSERT INTO t VALUES (1, '0044-03-15 00:00+00 BC', '1 year 2 mons', 0.1::float8 + 0.2, '\\xde5c00ad')"
        )
        world.replicate()
        world.write("UPDATE t SET d = '2024-06-01 12:00+00'")
        world.replicate()
        assert len(world.same()) == 1
    finally:
        for conn in (world.shared, world.service):
            conn.execute("ALTER ROLE postgres RESET ALL")
