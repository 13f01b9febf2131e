-- name: row_types
SELECT ARRAY[n.nspname, c.relname]::text[], a.attname, ARRAY[rn.nspname, r.relname]::text[], c.oid = ANY (%(tables)s)
FROM pg_class r
JOIN pg_namespace rn ON rn.oid = r.relnamespace
JOIN pg_type t ON t.oid = r.reltype
JOIN pg_attribute a ON a.atttypid IN (t.oid, t.typarray) AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.relkind IN ('r', 'p') AND r.oid >= 16384 AND c.relkind IN ('r', 'p', 'm', 'c')
  AND (c.oid = ANY (%(tables)s)) <> (r.oid = ANY (%(tables)s))
ORDER BY 1, 2

-- name: used
-- Types of the columns, and the types under arrays, domains and ranges, without those of extensions and of tables.
WITH RECURSIVE used (oid) AS (
    SELECT DISTINCT a.atttypid FROM pg_attribute a
    WHERE a.attrelid = ANY (%(tables)s) AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT under.oid
    FROM used
    JOIN pg_type t ON t.oid = used.oid
    LEFT JOIN pg_range g ON g.rngtypid = t.oid
    LEFT JOIN pg_attribute a ON a.attrelid = t.typrelid AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
    CROSS JOIN LATERAL (VALUES (t.typelem), (t.typbasetype), (g.rngsubtype), (a.atttypid)) AS under (oid)
    WHERE under.oid >= 16384
)
SELECT ARRAY[n.nspname, t.typname]::text[],
       CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'c' THEN 'composite' WHEN 'r' THEN 'range'
            ELSE 'base' END,
       CASE t.typtype WHEN 'e' THEN (
           SELECT format('CREATE TYPE %%I.%%I AS ENUM (%%s);', n.nspname, t.typname,
                         string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder))
           FROM pg_enum e WHERE e.enumtypid = t.oid
       ) END
FROM used
JOIN pg_type t ON t.oid = used.oid
JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.oid >= 16384 AND NOT (t.typtype = 'b' AND t.typcategory = 'A') AND t.typtype <> 'm' AND coalesce(c.relkind, 'c') = 'c'
  AND NOT EXISTS (SELECT FROM pg_depend e
                  WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e')
ORDER BY 1

-- name: missing
SELECT w.schema, w.name
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w (schema, name)
WHERE to_regtype(format('%%I.%%I', w.schema, w.name)) IS NULL
ORDER BY 1, 2
