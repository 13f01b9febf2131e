-- name: described
-- Domains hide a type whose modifier decides how a value is rounded, composites hide those of their attributes, ranges
-- that of their bounds: so what is under them is named too. The path puts each part behind what it is part of.
WITH RECURSIVE part (path, oid, typmod, lead) AS (
    SELECT ARRAY[0]::int2[], $1::oid, $2::int4, '' COLLATE "C"
    UNION ALL
    SELECT part.path || inner_.number, inner_.oid, inner_.typmod, inner_.lead COLLATE "C"
    FROM part
    JOIN pg_type t ON t.oid = part.oid
    CROSS JOIN LATERAL (
        SELECT 0::int2, t.typbasetype, t.typtypmod, ' over ' WHERE t.typtype = 'd'
        UNION ALL
        -- An array is named with its element.
        SELECT 0::int2, t.typelem, part.typmod, NULL WHERE t.typcategory = 'A' AND t.typelem <> 0
        UNION ALL
        SELECT 0::int2, r.rngsubtype, -1, ' over ' FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
        UNION ALL
        SELECT a.attnum, a.atttypid, a.atttypmod, format(' with %I ', a.attname)
        FROM pg_attribute a
        WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) AS inner_ (number, oid, typmod, lead)
)
SELECT string_agg(part.lead || format_type(part.oid, part.typmod), '' ORDER BY part.path)
FROM part
WHERE part.lead IS NOT NULL AND EXISTS (SELECT FROM pg_type WHERE oid = $1)

-- name: column
SELECT a.atttypid::int8, a.atttypmod
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = $3 AND NOT a.attisdropped
