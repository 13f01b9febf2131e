-- name: mentioning
WITH mentioned AS (
    SELECT p.oid, w.name
    FROM pg_proc p
    CROSS JOIN unnest(%(names)s::text[], %(patterns)s::text[]) AS w (name, pattern)
    WHERE p.oid >= 16384 AND p.prosrc ~ w.pattern -- what PostgreSQL brings along mentions no table of ours
    UNION
    SELECT d.objid, w.name
    FROM unnest(%(tables)s::oid[], %(names)s::text[]) AS w (oid, name)
    JOIN pg_class c ON c.oid = w.oid
    JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND (
        d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
        OR d.refclassid = 'pg_type'::regclass AND d.refobjid = c.reltype
    )
)
SELECT p.oid::regprocedure::text, array_agg(DISTINCT mentioned.name)
FROM mentioned
JOIN pg_proc p ON p.oid = mentioned.oid
JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_language l ON l.oid = p.prolang AND l.lanname NOT IN ('internal', 'c')
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'carveout')
  AND NOT EXISTS (SELECT FROM pg_depend e
                  WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
GROUP BY p.oid
ORDER BY 1
