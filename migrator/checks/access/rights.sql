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
WITH lacking AS (
    SELECT 'TABLE' AS kind, c.oid, array_agg(p.privilege ORDER BY p.privilege) AS missing
    FROM pg_class c
    CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) AS p (privilege)
    WHERE c.oid = ANY (%(tables)s) AND NOT has_table_privilege(c.oid, p.privilege)
    GROUP BY c.oid
    UNION ALL
    SELECT 'SEQUENCE', c.oid, array_agg(p.privilege ORDER BY p.privilege)
    FROM pg_class c
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
     AND d.refobjid = ANY (%(tables)s) AND d.deptype IN ('a', 'i')
    CROSS JOIN unnest('{SELECT,UPDATE}'::text[]) AS p (privilege)
    WHERE CASE WHEN c.relkind = 'S' THEN NOT has_sequence_privilege(c.oid, p.privilege) END
    GROUP BY c.oid
)
SELECT lacking.kind, lacking.missing, array_agg(n.nspname::text ORDER BY n.nspname, c.relname),
       array_agg(c.relname::text ORDER BY n.nspname, c.relname)
FROM lacking
JOIN pg_class c ON c.oid = lacking.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
GROUP BY lacking.kind, lacking.missing
ORDER BY 1 DESC, 2
