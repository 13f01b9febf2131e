from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from contexts import scaffold, schema
from contexts.databases import Database, Databases
from contexts.errors import ConfigError, RefusedError
from contexts.loader import load_context, load_project
from contexts.model import Grant, Side, TableName
from contexts.scaffold import statements
from tests.conftest import need
from tests.contexts import odd
from tests.contexts.odd import WEIRD

NewDatabase = Callable[[int, Side], Database]


def has_contrib() -> bool:
    return Path("/usr/share/postgresql/15/extension/citext.control").exists()


@pytest.mark.parametrize(
    ("majors", "contrib"), [((16, 18), False), ((14, 17), False), ((18, 16), False), ((15, 15), True)]
)
def test_a_generated_schema_is_the_shared_one(
    new_database: NewDatabase, tmp_path: Path, majors: tuple[int, int], contrib: bool
) -> None:
    if contrib:
        need("contrib", has_contrib(), "install the contrib modules of PostgreSQL 15")
    sides, context, _ = odd.make(new_database, majors, tmp_path, contrib=contrib)
    assert schema.upgrade(sides.service, context, "tables") == ("0001",)
    assert schema.upgrade(sides.service, context) == ("0002",)
    found = schema.check(sides, context)
    assert found.differences == ()
    assert (found.passed, found.tables) == (True, len(context.tables) + 6)
    # What the revisions wrote is, read again, what they were written from.
    assert texts(sides.shared, context.table_names) == texts(sides.service, context.table_names)


def texts(database: Database, tables: tuple[TableName, ...]) -> set[str]:
    """The statements of both revisions."""
    with database.connect("test") as conn:
        shape = scaffold.read_shape(conn, tables)
    return {*statements.tables(shape), *statements.constraints(shape)}


REMOVALS = [
    ('DROP INDEX "Odd Schema"."Expression Index"', 'index "Odd Schema"."Expression Index"', "exists"),
    ('COMMENT ON INDEX "Odd Schema"."Expression Index" IS NULL', "index .*Expression Index", "comment"),
    ('ALTER INDEX "Odd Schema".brin SET (pages_per_range = 32)', 'index "Odd Schema".brin', "definition"),
    ("DROP INDEX parts.by_region", "index parts.by_region", "exists"),
    ("DROP INDEX parts.own_index", "index parts.own_index", "exists"),
    (f'ALTER TABLE {WEIRD} DROP CONSTRAINT "no overlap"', 'constraint "no overlap"', "exists"),
    (f"ALTER TABLE {WEIRD} DROP CONSTRAINT once", "constraint once", "exists"),
    (
        f"ALTER TABLE {WEIRD} DROP CONSTRAINT once, ADD CONSTRAINT once UNIQUE (c, p)",
        "constraint once",
        "definition",
    ),
    (
        f"ALTER TABLE {WEIRD} DROP CONSTRAINT later, ADD CONSTRAINT later UNIQUE (number) WITH (fillfactor = 70)",
        "constraint later",
        "definition",
    ),
    ('ALTER INDEX "Odd Schema".later RESET (fillfactor)', "constraint later", "options"),
    (f'ALTER TABLE {WEIRD} DROP CONSTRAINT "amount: small"', 'constraint "amount: small"', "exists"),
    (f"ALTER TABLE {WEIRD} DROP CONSTRAINT new_rows", "constraint new_rows", "exists"),
    (f"ALTER TABLE {WEIRD} VALIDATE CONSTRAINT new_rows", "constraint new_rows", "definition"),
    ("ALTER TABLE parts.events DROP CONSTRAINT positive", "constraint positive on parts.events", "exists"),
    ("ALTER TABLE parts.events_2024_rest DROP CONSTRAINT own", "constraint own", "exists"),
    ('ALTER TABLE "Odd Schema".no_identity DROP CONSTRAINT to_weird', "constraint to_weird", "exists"),
    ("ALTER TABLE parts.events DROP CONSTRAINT events_weird_fkey", "constraint events_weird_fkey", "exists"),
    (f'COMMENT ON CONSTRAINT "The Key" ON {WEIRD} IS NULL', 'constraint "The Key"', "comment"),
    (f"COMMENT ON TABLE {WEIRD} IS 'other'", f"table {re.escape(WEIRD)}", "comment"),
    (f'COMMENT ON COLUMN {WEIRD}."select" IS NULL', 'column .*"select"', "comment"),
    (f"ALTER TABLE {WEIRD} RESET (fillfactor)", "table .*Weird", "options"),
    (f"ALTER TABLE {WEIRD} RESET (toast.autovacuum_enabled)", "table .*Weird", "options"),
    (f"ALTER TABLE {WEIRD} DROP COLUMN bits", "column .*bits", "exists"),
    (f"ALTER TABLE {WEIRD} ADD COLUMN extra int", "column .*extra", "exists"),
    (f"ALTER TABLE {WEIRD} RENAME COLUMN bits TO bitten", "column .*bitten", "exists"),
    (f"ALTER TABLE {WEIRD} ALTER bits TYPE bit varying(10)", "column .*bits", "type"),
    (f"ALTER TABLE {WEIRD} ALTER region TYPE varchar", "column .*region", "type"),
    (f'ALTER TABLE {WEIRD} ALTER region TYPE text COLLATE "C"', "column .*region", "collation"),
    (f"ALTER TABLE {WEIRD} ALTER mood DROP NOT NULL", "column .*mood", "not_null"),
    (f"ALTER TABLE {WEIRD} ALTER amount SET NOT NULL", "column .*amount", "not_null"),
    (f"ALTER TABLE {WEIRD} ALTER colons SET DEFAULT 'at 12:30'", "column .*colons", "default"),
    (f"ALTER TABLE {WEIRD} ALTER at DROP DEFAULT", "column .*at", "default"),
    (f"ALTER TABLE {WEIRD} ALTER amount_twice DROP EXPRESSION", "column .*amount_twice", "generated"),
    (f'ALTER TABLE {WEIRD} ALTER "Id" SET GENERATED BY DEFAULT', 'column .*"Id"', "identity"),
    (f'ALTER TABLE {WEIRD} ALTER "Id" DROP IDENTITY', 'column .*"Id"', "identity"),
    (f'ALTER TABLE {WEIRD} ALTER "Id" SET INCREMENT BY 1', 'column .*"Id"', "identity_options"),
    (f"ALTER TABLE {WEIRD} ALTER big SET STORAGE EXTENDED", "column .*big", "storage"),
    (f"ALTER TABLE {WEIRD} ALTER big SET COMPRESSION default", "column .*big", "compression"),
    (f"ALTER TABLE {WEIRD} ALTER c SET STATISTICS -1", "column .*c", "statistics"),
    (f"ALTER TABLE {WEIRD} ALTER p RESET (n_distinct)", "column .*p", "options"),
    ('DROP STATISTICS "Odd Schema"."Stats"', 'statistics "Odd Schema"."Stats"', "exists"),
    ('ALTER TABLE "Odd Schema".full_identity REPLICA IDENTITY DEFAULT', "table .*full_identity", "replica_identity"),
    ('ALTER TABLE "Odd Schema".index_identity REPLICA IDENTITY NOTHING', "table .*index_identity", "replica_identity"),
    ("ALTER TABLE parts.attached REPLICA IDENTITY DEFAULT", "table parts.attached", "replica_identity"),
    ('ALTER SEQUENCE helper.numbers NO CYCLE', "sequence helper.numbers", "options"),
    ("ALTER SEQUENCE helper.numbers START WITH 10", "sequence helper.numbers", "options"),
    ('ALTER SEQUENCE "Odd Schema"."Weird ""Table""_small_seq" OWNED BY NONE', "sequence .*small_seq", "owned_by"),
    ("COMMENT ON SEQUENCE helper.numbers IS NULL", "sequence helper.numbers", "comment"),
    ("""ALTER TYPE "Odd Schema"."Mood" ADD VALUE 'new' BEFORE 'so so'""", 'type "Odd Schema"."Mood"', "definition"),
    ("""ALTER TYPE "Odd Schema"."Mood" RENAME VALUE 'so so' TO 'so'""", 'type "Odd Schema"."Mood"', "definition"),
    ('COMMENT ON TYPE "Odd Schema"."Mood" IS NULL', "type .*Mood", "comment"),
    ("ALTER DOMAIN helper.label DROP CONSTRAINT filled", "type helper.label", "checks"),
    ("ALTER DOMAIN helper.amount DROP CONSTRAINT small", "type helper.amount", "checks"),
    ("ALTER DOMAIN helper.label DROP NOT NULL", "type helper.label", "definition"),
    ("ALTER DOMAIN helper.label DROP DEFAULT", "type helper.label", "definition"),
    ('ALTER TYPE helper.point RENAME ATTRIBUTE "Y" TO y', "type helper.point", "definition"),
    (
        "CREATE OR REPLACE FUNCTION helper.is_short(value text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true'",
        "function helper.is_short",
        "definition",
    ),
    ("DROP TABLE parts.events_2024_rest", "table parts.events_2024_rest", "exists"),
    ("ALTER TABLE parts.events DETACH PARTITION parts.attached", "table parts.attached", "exists"),
    (
        "ALTER TABLE parts.events DETACH PARTITION parts.attached; ALTER TABLE parts.events ATTACH PARTITION"
        " parts.attached FOR VALUES FROM ('2025-01-01') TO ('2099-01-01')",
        "table parts.attached",
        "bound",
    ),
    ("CREATE TABLE parts.more PARTITION OF parts.events DEFAULT", "table parts.more", "exists"),
]  # fmt: skip


def test_each_feature_that_is_missing_or_other_is_a_difference(new_database: NewDatabase, tmp_path: Path) -> None:
    sides, context, _ = odd.make(new_database, (16, 18), tmp_path)
    schema.upgrade(sides.service, context)
    with sides.shared.connect("test") as conn:
        shared = scaffold.read_shape(conn, context.table_names)
    unseen = []
    with sides.service.connect("test") as conn:
        for statement, label, fact in REMOVALS:
            with conn.transaction(force_rollback=True):
                conn.execute(sql.SQL(statement))
                found = scaffold.compare(shared, scaffold.read_shape(conn, context.table_names))
            if not any(re.match(label, d.object) and d.property == fact for d in found):
                unseen.append((statement, [str(d) for d in found]))
        assert scaffold.compare(shared, scaffold.read_shape(conn, context.table_names)) == []
    assert unseen == []


def test_a_missing_table_and_a_stale_revision_do_not_pass(new_database: NewDatabase, tmp_path: Path) -> None:
    sides, context, _ = odd.make(new_database, (16, 18), tmp_path)
    before = schema.check(sides, context)
    assert (before.passed, before.current, before.head) == (False, (), ("0002",))
    assert any(str(d).startswith("table parts.events: exists: shared 'yes', service 'no'") for d in before.differences)
    schema.upgrade(sides.service, context, "tables")
    assert any(d.object.startswith("constraint once") for d in schema.check(sides, context).differences)
    nowhere = schema.check(Databases(sides.service, new_database(16, Side.SERVICE)), context)
    assert not nowhere.passed
    schema.upgrade(sides.service, context)
    odd.run(sides.shared, "DROP TABLE parts.hashes")
    odd.run(sides.service, "DROP TABLE parts.hashes")
    assert [str(d) for d in schema.check(sides, context).differences] == [
        "table parts.hashes: exists: shared 'no', service 'no'"
    ]


LEFT_BEHIND = """
CREATE FUNCTION elsewhere.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION elsewhere.describe(it "Odd Schema".no_identity) RETURNS text LANGUAGE sql AS 'SELECT ''x''';
CREATE TABLE left_behind.plain (id int PRIMARY KEY, n int DEFAULT nextval('helper.numbers'), t elsewhere.customers);
CREATE TRIGGER "Touch" BEFORE UPDATE ON left_behind.plain FOR EACH ROW EXECUTE FUNCTION elsewhere.touch();
CREATE TRIGGER carveout_write_lock BEFORE UPDATE ON left_behind.plain FOR EACH ROW EXECUTE FUNCTION elsewhere.touch();
CREATE RULE quiet AS ON DELETE TO left_behind.plain DO INSTEAD NOTHING;
CREATE VIEW elsewhere.seen AS SELECT id FROM left_behind.plain;
CREATE MATERIALIZED VIEW elsewhere.kept AS SELECT id FROM left_behind.plain;
ALTER TABLE left_behind.plain ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON left_behind.plain USING (id > 0);
CREATE TABLE left_behind.child () INHERITS (left_behind.plain);
CREATE UNLOGGED TABLE left_behind.fast (id int PRIMARY KEY);
CREATE TYPE left_behind.shape AS (id int);
CREATE TABLE left_behind.typed OF left_behind.shape;
CREATE TABLE elsewhere.pointing (plain int REFERENCES left_behind.plain, n int DEFAULT nextval('helper.numbers'));
CREATE TABLE left_behind.pointing (customer bigint REFERENCES elsewhere.customers);
CREATE PUBLICATION others FOR TABLE left_behind.plain;
CREATE OPERATOR left_behind.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
ALTER TABLE left_behind.plain ADD CHECK (id OPERATOR(left_behind.===) id);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nothing FOREIGN DATA WRAPPER nothing;
CREATE TABLE left_behind.parts (id int) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE elsewhere.far PARTITION OF left_behind.parts FOR VALUES FROM (0) TO (9) SERVER nothing;
"""


def test_what_is_not_carried_is_listed(new_database: NewDatabase, tmp_path: Path) -> None:
    sides, context, at_first = odd.make(new_database, (16, 16), tmp_path)
    assert {(left.kind, left.name) for left in at_first} == {
        ("foreign key", '"Weird ""Table""_customer_id_fkey"'),
        ("foreign key", '"Weird ""Table""_region_customer_id_fkey"'),
        ("function", "helper.is_short(pg_catalog.text)"),
        ("function", "helper.numeric_diff(numeric,numeric)"),
    }
    odd.run(sides.shared, "CREATE SCHEMA left_behind;" + LEFT_BEHIND)
    names = ("plain", "fast", "typed", "pointing", "parts")
    with sides.shared.connect("test") as conn:
        found = scaffold.not_carried(conn, [TableName("left_behind", name) for name in names])
        part = scaffold.not_carried(conn, [TableName("parts", "events_2024_rest")])
        rows = scaffold.not_carried(conn, context.table_names)
    assert {(left.kind, left.name) for left in found} == {
        ("trigger", '"Touch"'),
        ("rule", "quiet"),
        ("view", "elsewhere.seen"),
        ("materialized view", "elsewhere.kept"),
        ("row security", ""),
        ("policy", "mine"),
        ("inheritance", "left_behind.child"),
        ("unlogged", ""),
        ("typed table", "left_behind.shape"),
        ("foreign key", "pointing_plain_fkey"),
        ("foreign key", "pointing_customer_fkey"),
        ("sequence", "helper.numbers"),
        ("publication", "others"),
        ("operator", "left_behind.===(integer,integer)"),
        ("type", "elsewhere.customers"),
        ("foreign table", "elsewhere.far"),
    }
    assert ("partition", "parts.events_2024") in {(left.kind, left.name) for left in part}
    assert ("function", 'elsewhere.describe("Odd Schema".no_identity)') in {(left.kind, left.name) for left in rows}
    assert 'trigger "Touch" of left_behind.plain: runs elsewhere.touch()' in "\n".join(map(str, found))


def test_references_that_the_boundary_cuts_become_declarations(new_database: NewDatabase, tmp_path: Path) -> None:
    _, context, _ = odd.make(new_database, (16, 18), tmp_path)
    assert context.references == ()
    path = context.folder / "context.toml"
    kept = [
        line.removeprefix("# ") if re.match(r"# (\[\[|\w+ =)", line) else line for line in path.read_text().split("\n")
    ]
    path.write_text("\n".join(kept))
    first, second = load_context(load_project(tmp_path), "odd").references
    assert first.table == TableName("Odd Schema", 'Weird "Table"')
    assert (second.columns, second.referenced_columns) == (("region", "customer_id"), ("region", "id"))
    assert first.references == second.references == TableName("elsewhere", "customers")


def test_nothing_is_written_where_something_is_wrong(new_database: NewDatabase, tmp_path: Path) -> None:
    sides, context, _ = odd.make(new_database, (16, 16), tmp_path)
    project = load_project(tmp_path)

    def refused(name: str, *tables: str, error: type[Exception] = ConfigError, match: str) -> None:
        with sides.shared.connect("test") as conn, pytest.raises(error, match=match):
            scaffold.new_context(conn, project, name, map(TableName.parse, tables))

    refused("odd", "elsewhere.customers", error=RefusedError, match="is there already")
    refused("two", "parts.hashes", "elsewhere.customers", match=r"belong to other contexts: parts\.hashes \(odd\)")
    refused("two", "elsewhere.customers", "elsewhere.nobody", match=r"no such tables .*: elsewhere\.nobody$")
    refused("two", "elsewhere.customers", "elsewhere.customers", match="listed twice")
    refused("Two!", "elsewhere.customers", match="lower case")
    refused("two", match="at least 1")
    with sides.shared.connect("test") as conn:
        tables = [TableName("elsewhere", "customers")]
        made = scaffold.new_context(
            conn, project, "two", tables, url_env="X", grants=[Grant(role="r", privileges=("select",))], dry_run=True
        )
        assert "${X}" in made.files[Path("context.toml")]
        assert not made.folder.exists()
        assert {path.name for path in context.folder.parent.iterdir()} == {"odd"}
        scaffold.new_context(conn, project, "two", tables)
    assert load_context(project, "two").service.url == "${TWO_DATABASE_URL}"


def test_a_context_with_bare_tables_has_an_empty_second_revision(new_database: NewDatabase, tmp_path: Path) -> None:
    sides, _, _ = odd.make(new_database, (16, 18), tmp_path)
    odd.run(sides.shared, "CREATE TABLE elsewhere.bare (id int PRIMARY KEY)")
    project = load_project(tmp_path)
    with sides.shared.connect("test") as conn:
        scaffold.new_context(conn, project, "bare", [TableName("elsewhere", "bare")])
    context = load_context(project, "bare")
    schema.upgrade(sides.service, context)
    assert schema.check(sides, context).passed


def test_the_catalogs_are_read_in_a_transaction_that_writes_nothing(new_database: NewDatabase, tmp_path: Path) -> None:
    sides, _, _ = odd.make(new_database, (16, 16), tmp_path)
    project = load_project(tmp_path)
    with sides.shared.connect("test", default_transaction_read_only="on") as conn:
        scaffold.new_context(conn, project, "two", [TableName("elsewhere", "customers")], dry_run=True)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute("CREATE TABLE elsewhere.x ()")
