-- name: create_in_database
SELECT has_database_privilege(current_database(), 'CREATE')

-- name: schemas
SELECT n.nspname, array_agg(p.privilege ORDER BY p.privilege)
FROM pg_namespace n
CROSS JOIN unnest(%(needed)s::text[]) AS p (privilege)
WHERE n.nspname = ANY (%(schemas)s) AND NOT has_schema_privilege(n.oid, p.privilege)
GROUP BY n.nspname
ORDER BY n.nspname

-- name: foreign_owners
SELECT r.rolname, r.rolsuper, array_agg(n.nspname::text ORDER BY n.nspname, c.relname),
       array_agg(c.relname::text ORDER BY n.nspname, c.relname)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles r ON r.oid = c.relowner
WHERE c.oid = ANY (%s) AND NOT pg_has_role(r.oid, 'USAGE')
GROUP BY r.rolname, r.rolsuper
ORDER BY r.rolname

-- name: missing_privileges
-- Both sides are written: the closed one by the stream. Sequences are read and set by a switch.
SELECT 'TABLE', n.nspname, c.relname, array_agg(p.privilege ORDER BY p.privilege)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) AS p (privilege)
WHERE c.oid = ANY (%(tables)s) AND NOT has_table_privilege(c.oid, p.privilege)
GROUP BY n.nspname, c.relname
UNION ALL
SELECT 'SEQUENCE', n.nspname, c.relname, array_agg(p.privilege ORDER BY p.privilege)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN unnest('{SELECT,UPDATE}'::text[]) AS p (privilege)
WHERE c.relkind = 'S' AND NOT has_sequence_privilege(c.oid, p.privilege)
  AND c.oid IN (SELECT objid FROM pg_depend
                WHERE classid = 'pg_class'::regclass AND refobjid = ANY (%(tables)s) AND deptype IN ('a', 'i'))
GROUP BY n.nspname, c.relname
ORDER BY 1 DESC, 2, 3
