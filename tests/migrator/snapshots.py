"""What a database holds, to compare before and after: its catalog, and every row of every table."""

from __future__ import annotations

from psycopg import sql

from contexts.databases import Connection, Database

_OBJECTS = """
SELECT 'relation', c.oid::regclass::text, c.relkind::text, coalesce(c.relacl::text, '') FROM pg_class c
    WHERE c.relnamespace::regnamespace::text NOT LIKE 'pg\\_%%' AND c.relnamespace <> 'information_schema'::regnamespace
UNION ALL
SELECT 'trigger', t.tgrelid::regclass::text || '.' || t.tgname, t.tgenabled::text, t.tgfoid::regproc::text
    FROM pg_trigger t WHERE NOT t.tgisinternal
UNION ALL
SELECT 'constraint', c.conrelid::regclass::text || '.' || c.conname, pg_get_constraintdef(c.oid), c.convalidated::text
    FROM pg_constraint c WHERE c.connamespace <> 'information_schema'::regnamespace AND c.conrelid <> 0
UNION ALL
SELECT 'function', p.oid::regprocedure::text, md5(p.prosrc), '' FROM pg_proc p
    WHERE p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
UNION ALL
SELECT 'publication', p.pubname, array(SELECT prrelid::regclass::text FROM pg_publication_rel r
    WHERE r.prpubid = p.oid ORDER BY 1)::text, '' FROM pg_publication p
UNION ALL
SELECT 'slot', s.slot_name, s.plugin, '' FROM pg_replication_slots s WHERE s.database = current_database()
UNION ALL
SELECT 'schema', n.nspname, coalesce(n.nspacl::text, ''), '' FROM pg_namespace n WHERE n.nspname NOT LIKE 'pg\\_%%'
ORDER BY 1, 2, 3
"""
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'S') AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'
ORDER BY 1, 2
"""
#: Written by a worker at any time, whatever a command does.
_LIVE = {("carveout", name) for name in ("worker", "position", "marker", "sample", "watch", "straggler")}


def catalog(database: Database, *, own: bool = True) -> list[tuple[str, ...]]:
    """Every object that somebody made; without ``own`` those of Carveout's schema are left out."""
    with database.connect("test") as conn:
        found = conn.execute(sql.SQL(_OBJECTS.replace("%%", "%"))).fetchall()
    return [row for row in found if own or not (row[1] == "carveout" or row[1].startswith("carveout."))]


def rows(database: Database) -> dict[str, list[str]]:
    """Every row of every table and sequence as text."""
    with database.connect("test") as conn:
        names = conn.execute(sql.SQL(_TABLES.replace("%%", "%"))).fetchall()
        return {f"{schema}.{name}": _rows(conn, schema, name) for schema, name in names if (schema, name) not in _LIVE}


def _rows(conn: Connection, schema: str, name: str) -> list[str]:
    query = sql.SQL("SELECT t::text FROM (SELECT * FROM {}) t ORDER BY 1").format(sql.Identifier(schema, name))
    return [text for (text,) in conn.execute(query)]
