-- name: over
WITH RECURSIVE over (relation, moved) AS (
    SELECT oid, oid FROM pg_class WHERE oid = ANY (%s)
    UNION
    SELECT r.ev_class, over.moved
    FROM over
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = over.relation
     AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> over.relation
)
SELECT ARRAY[n.nspname, c.relname]::text[], c.relkind = 'm', array_agg(DISTINCT over.moved::regclass::text)
FROM over
JOIN pg_class c ON c.oid = over.relation AND c.relkind IN ('v', 'm')
JOIN pg_namespace n ON n.oid = c.relnamespace
GROUP BY 1, 2
ORDER BY 1
