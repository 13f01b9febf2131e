"""What a change means on a table that the copy has not wholly brought."""

from __future__ import annotations

import pytest

from cdc.apply import Coverage, Extent
from contexts.errors import StreamStopped
from contexts.model import TableName
from tests.apply.conftest import World

T, U = TableName("public", "t"), TableName("public", "u")
TABLES = (
    "CREATE TABLE t (id int PRIMARY KEY, v text, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;"
    "CREATE TABLE u (id int PRIMARY KEY, v text)"
)
BIG = "repeat('x', 5000)"


@pytest.fixture
def half(world: World, path: str) -> World:
    """Keys 1 to 9 are on both sides, keys 10 to 19 not copied yet."""
    world.both(TABLES)
    for conn, last in ((world.shared, 19), (world.service, 9)):
        conn.execute(f"INSERT INTO public.t SELECT i, 'v', {BIG} FROM generate_series(1, {last}) i")
    world.start("t", "u", coverage=Coverage({T: Extent.PARTIAL, U: Extent.NONE}))
    return world


def keys_to_bring(world: World) -> list[tuple[str, str, str, list[str]]]:
    return world.service.execute("SELECT context, table_schema, table_name, key FROM carveout.copy_key").fetchall()


def test_changes_of_a_table_without_any_part_are_skipped(half: World) -> None:
    half.write("INSERT INTO u VALUES (1, 'a')", "UPDATE u SET v = 'b'", "TRUNCATE u", "INSERT INTO u VALUES (2, 'a')")
    half.replicate()
    assert half.rows(half.service, "public.u") == []
    assert half.applier.position.end_lsn > 0


def test_rows_of_ranges_to_come_may_be_missing(half: World) -> None:
    half.write(
        "UPDATE t SET v = 'w'", "DELETE FROM t WHERE id IN (5, 15)", f"UPDATE t SET big = {BIG} || 'y' WHERE id = 12"
    )
    half.write("INSERT INTO t VALUES (15, 'new', 'b'), (30, 'new', null)", "UPDATE t SET v = 'x' WHERE id = 15")
    half.replicate()
    known = "(SELECT * FROM public.t WHERE id < 10 OR id IN (15, 30)) AS known"
    assert half.rows(half.service, "public.t") == half.rows(half.shared, known)
    assert keys_to_bring(half) == []


def test_an_insert_replaces_the_row(half: World) -> None:
    half.service.execute("INSERT INTO public.t VALUES (25, 'stale', null)")
    half.write("INSERT INTO t VALUES (25, 'new', 'b')", "INSERT INTO t VALUES (26, 'new', 'b')")
    half.replicate()
    known = "(SELECT * FROM public.t WHERE id < 10 OR id > 19) AS known"
    assert half.rows(half.service, "public.t") == half.rows(half.shared, known)
    assert half.applier.fallbacks == 0


def test_a_key_that_leaves_a_range_to_come_with_unchanged_values_is_brought_later(half: World) -> None:
    half.write("UPDATE t SET id = 100, v = 'moved' WHERE id = 12", "UPDATE t SET id = 101 WHERE id = 3")
    half.write(f"UPDATE t SET id = 102, big = {BIG} || 'z' WHERE id = 13", "UPDATE t SET v = 'again' WHERE id = 100")
    half.replicate()
    assert keys_to_bring(half) == [("wallet", "public", "t", ["100"])]
    known = "(SELECT * FROM public.t WHERE id < 10 OR id IN (101, 102)) AS known"
    assert half.rows(half.service, "public.t") == half.rows(half.shared, known)


def test_a_table_without_key_cannot_be_copied_in_cycles(world: World) -> None:
    world.both("CREATE TABLE t (a int); ALTER TABLE t REPLICA IDENTITY FULL")
    world.start("t", coverage=Coverage({T: Extent.PARTIAL}))
    world.write("INSERT INTO t VALUES (1)")
    with pytest.raises(StreamStopped, match="has no key"):
        world.replicate()


def test_a_complete_table_is_strict_beside_an_incomplete_one(half: World) -> None:
    half.shared.execute("INSERT INTO public.u VALUES (1, 'a')")
    half.read()
    half.open(coverage=Coverage({T: Extent.PARTIAL}))
    half.write("UPDATE u SET v = 'b'")
    with pytest.raises(StreamStopped, match=r"public\.u \(id\)=\(1\): no row"):
        half.replicate()
