-- name: described
-- Domains hide a type whose modifier decides how a value is rounded, so what is under them is named too.
WITH RECURSIVE part (depth, oid, typmod, is_shown) AS (
    SELECT 0, $1::oid, $2::int4, true
    UNION ALL
    SELECT part.depth + 1,
           CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END,
           CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE part.typmod END,
           t.typtype = 'd'
    FROM part
    JOIN pg_type t ON t.oid = part.oid
    WHERE t.typtype = 'd' OR (t.typcategory = 'A' AND t.typelem <> 0)
)
SELECT string_agg(format_type(part.oid, part.typmod), ' over ' ORDER BY part.depth)
FROM part
WHERE part.is_shown AND EXISTS (SELECT FROM pg_type WHERE oid = $1)
