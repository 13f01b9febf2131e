"""Types whose equality is not identity, and types that need a server built with more than the smallest one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from contexts.databases import Database, Databases
from contexts.model import Side
from tests.apply.conftest import World

pytestmark = pytest.mark.usefixtures("path")


@pytest.fixture
def full_build(new_database: Callable[[int, Side], Database]) -> Iterator[World]:
    """Both sides on a server with ICU, libxml and contrib modules."""
    world = World(Databases(new_database(15, Side.SHARED), new_database(15, Side.SERVICE)))
    yield world
    world.close()


def test_a_key_under_a_collation_that_calls_different_texts_equal(full_build: World) -> None:
    full_build.both(
        "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        "CREATE TABLE t (k text COLLATE loose PRIMARY KEY, v text);"
        "CREATE TABLE u (k text COLLATE loose, v text); ALTER TABLE u REPLICA IDENTITY FULL"
    )
    full_build.start("t", "u")
    full_build.write("INSERT INTO t VALUES ('a', '1'), ('b', '2'), ('c', '3'), ('d', '4'), ('e', '5')")
    full_build.write("INSERT INTO u VALUES ('a', '1'), ('A', '1'), ('A', '1')")
    full_build.replicate()
    full_build.write("UPDATE t SET k = 'A'  WHERE k = 'a'", "UPDATE t SET v = 'x' WHERE k IN ('a', 'B')")
    full_build.write("DELETE FROM t WHERE k = 'C'", "INSERT INTO t VALUES ('C', 'again')")
    full_build.write(
        "DELETE FROM u WHERE ctid = (SELECT max(ctid) FROM u)", "UPDATE u SET v = '2' WHERE k = 'A' COLLATE \"C\""
    )
    full_build.replicate()
    assert len(full_build.same()) == 7


def test_keys_of_extension_types_are_found_by_their_own_operator(full_build: World) -> None:
    try:
        full_build.both("CREATE EXTENSION citext SCHEMA public")
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("the contrib modules are missing")
    full_build.both("CREATE TABLE t (k citext PRIMARY KEY, v text)")
    full_build.start("t")
    full_build.write("INSERT INTO t SELECT 'Key ' || i, 'a' FROM generate_series(1, 9) i")
    full_build.replicate()
    full_build.write("UPDATE t SET v = 'b' WHERE k < 'KEY 4'", "UPDATE t SET k = 'KEY 5' WHERE k = 'key 5'")
    full_build.write("DELETE FROM t WHERE k = 'key 6'")
    full_build.replicate()
    assert len(full_build.same()) == 8
    plan = full_build.applier._collector._plans.latest(full_build.tables[0])
    assert plan is not None
    assert [(o and o.schema) for o in plan.key_operators] == ["public"]


def test_xml_is_text_to_us(full_build: World) -> None:
    full_build.both("CREATE TABLE t (x xml, n int); ALTER TABLE t REPLICA IDENTITY FULL")
    full_build.start("t")
    full_build.write(
        """INSERT INTO t VALUES ('<a/>', 1), ('<a />', 1), ('<?xml version="1.0"?><b>é</b>', 2), ('x<c/>', 3)"""
    )
    full_build.replicate()
    full_build.write("DELETE FROM t WHERE x::text = '<a />'", "UPDATE t SET n = 9 WHERE n > 1")
    full_build.replicate()
    assert len(full_build.same()) == 3
