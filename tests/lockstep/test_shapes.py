"""Awkward tables in lockstep: every type, moving unique values, partitions, cascades, deferred triggers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg import sql
from sqlalchemy import insert, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from contexts.databases import Databases
from contexts.model import Side
from migrator.shims.engine import gated_engine
from tests.lockstep.conftest import OPTIONS, Lockstepped
from tests.migrator.inprocess import prepare, project, worker

TABLES = """
CREATE SCHEMA shop;
CREATE TYPE shop.mood AS ENUM ('sad', 'ok');
CREATE DOMAIN shop.money2 AS numeric(12, 2);
CREATE TABLE shop.types (
    k1 int, k2 date, PRIMARY KEY (k1, k2), c "char", b bool, ch char(5), f float8, n numeric, m shop.money2,
    ts timestamptz, iv interval, by bytea, j json, jb jsonb, arr text[], mo shop.mood, r int4range, u uuid,
    g int GENERATED ALWAYS AS (k1 * 2) STORED
);
CREATE TABLE shop.seat (id int PRIMARY KEY, place text UNIQUE, CONSTRAINT later UNIQUE (place, id) DEFERRABLE);
CREATE TABLE shop.parent (id int PRIMARY KEY);
CREATE TABLE shop.child (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent int REFERENCES shop.parent ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE shop.log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text);
CREATE FUNCTION shop.note() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO shop.log (note) VALUES (TG_OP || ' ' || TG_TABLE_NAME); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER noted AFTER INSERT OR UPDATE ON shop.parent DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION shop.note();
CREATE TABLE shop.part (id int, at date, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE shop.part_old PARTITION OF shop.part FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE shop.part_new PARTITION OF shop.part FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
INSERT INTO shop.seat VALUES (1, 'A'), (2, 'B'), (3, NULL);
INSERT INTO shop.parent VALUES (1), (2), (3);
INSERT INTO shop.child (parent) VALUES (1), (1), (2), (3);
INSERT INTO shop.part VALUES (1, '2020-05-05', 'old'), (2, '2021-05-05', 'new');
"""
NAMES = ("shop.types", "shop.seat", "shop.parent", "shop.child", "shop.log", "shop.part")
STATEMENTS = {
    "every type": [
        "INSERT INTO shop.types VALUES (1, '0044-03-15 BC', 'x', true, 'a ', -0.0, 1.00, 1.10,"
        " '2024-01-01 00:00:00.123456+05', '1 mon 30 days', '\\x00ff', '{\"b\": 1,  \"a\": 2}', '{\"a\": \"\\u00e9\"}',"
        " ARRAY['', NULL, 'null', 'a,b\"c'], 'ok', '[1,5)', '6d3a6f0e-0000-4000-8000-000000000001')",
        "INSERT INTO shop.types (k1, k2, f, n, ts) VALUES (2, 'infinity', 'NaN', 'Infinity', '-infinity'),"
        " (3, '2024-02-29', 1e-300, 'NaN', NULL), (4, '2024-02-29', 'Infinity', 12345678901234567890.5, NULL)",
        "UPDATE shop.types SET ch = 'b', by = '', arr = '{}' WHERE k1 = 1",
    ],
    "large value": [
        "INSERT INTO shop.types (k1, k2, j) SELECT 50, '2024-01-01', to_json(string_agg(md5(g::text), ''))"
        " FROM generate_series(1, 3000) g",
        "UPDATE shop.types SET b = false WHERE k1 = 50",
    ],
    "unique values swap": [
        "UPDATE shop.seat SET place = 'C' WHERE id = 1",
        "UPDATE shop.seat SET place = 'A' WHERE id = 2",
        "UPDATE shop.seat SET place = 'B' WHERE id = 1",
    ],
    "cascade": ["DELETE FROM shop.parent WHERE id = 1", "UPDATE shop.parent SET id = 20 WHERE id = 2"],
    "deferred trigger": ["INSERT INTO shop.parent VALUES (30), (31)"],
    "partitions": [
        "INSERT INTO shop.part VALUES (3, '2020-01-01', 'x'), (4, '2021-01-01', 'y')",
        "UPDATE shop.part SET at = '2021-07-07' WHERE id = 1",
        "UPDATE shop.part_new SET v = 'by leaf' WHERE id = 2",
        "DELETE FROM shop.part_old WHERE id = 3",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> Iterator[Lockstepped]:
    with module_pair.shared.connect("test") as conn:
        conn.execute(TABLES.encode())
    made = project(tmp_path_factory.mktemp("shop"), module_pair, "shop", *NAMES, options=OPTIONS)
    shop = Shop(made.folder, made.both, "shop", made.environment)
    prepare(shop)
    with worker(shop):
        shop.await_streaming()
        yield shop


class Shop(Lockstepped):
    """Compares every table of the shop."""

    def rows(self, side: Side) -> dict[str, list[tuple[object, ...]]]:
        with self.both[side].connect("test") as conn:
            return {
                name: sorted(conn.execute(
                    sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(*name.split(".")))
                ).fetchall())
                for name in NAMES
            }  # fmt: skip


@pytest.mark.parametrize("statements", STATEMENTS.values(), ids=STATEMENTS)
def test_both_sides_are_equal_when_the_commit_returns(shop: Lockstepped, statements: list[str]) -> None:
    shop.await_equal()
    gated = shop.connections()
    with shop.in_lockstep():
        audited = shop.audited()
        with gated.transaction() as conn:
            conn.execute("SET LOCAL datestyle = 'SQL, DMY'; SET LOCAL extra_float_digits = -5")
            for statement in statements:
                conn.execute(statement.encode())
        assert shop.rows(Side.SHARED) == shop.rows(Side.SERVICE)
        shop.await_audited(audited + 1)
        assert shop.differences() == []
    gated.close()


class Base(DeclarativeBase):
    """The shop's tables that the ORM writes."""


class Parent(Base):
    """As the application maps it."""

    __tablename__ = "parent"
    __table_args__ = {"schema": "shop"}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True)


def test_the_orm_and_core_and_savepoints(shop: Lockstepped) -> None:
    engine = gated_engine("shop", {side: shop.both[side].url for side in Side})
    with shop.in_lockstep():
        with Session(engine) as session:
            session.add_all([Parent(id=100), Parent(id=101)])
            session.flush()
            savepoint = session.begin_nested()
            session.add(Parent(id=102))
            session.flush()
            savepoint.rollback()
            session.execute(text("INSERT INTO shop.child (parent) VALUES (100)"))
            session.commit()
            assert shop.rows(Side.SHARED) == shop.rows(Side.SERVICE)
            assert session.get(Parent, 101) is not None
            session.delete(session.get(Parent, 101))
            session.commit()
        with engine.begin() as connection:
            connection.execute(insert(Parent), [{"id": n} for n in range(200, 230)])
        assert shop.rows(Side.SHARED) == shop.rows(Side.SERVICE)
    engine.dispose()


def test_a_failed_commit_is_on_neither_side(shop: Lockstepped) -> None:
    engine = gated_engine("shop", {side: shop.both[side].url for side in Side})
    with shop.in_lockstep():
        with shop.both.service.connect("test") as conn:
            conn.execute("ALTER FUNCTION carveout.lockstep_apply_shop(text, text) RENAME TO hidden")
        with pytest.raises(Exception, match="lockstep_apply_shop"), engine.begin() as connection:
            connection.execute(text("INSERT INTO shop.parent VALUES (900)"))
        with shop.both.service.connect("test") as conn:
            conn.execute("ALTER FUNCTION carveout.hidden(text, text) RENAME TO lockstep_apply_shop")
        with engine.begin() as connection:
            found = connection.execute(text("SELECT count(*) FROM shop.parent WHERE id = 900")).scalar()
        assert found == 0
        assert shop.prepared() == 0
    engine.dispose()
