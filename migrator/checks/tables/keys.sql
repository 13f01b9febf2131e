-- name: without_identity
-- indimmediate is false for deferrable constraints, which logical decoding cannot use.
WITH indexes AS (
    SELECT x.indrelid, x.indexrelid, x.indisprimary, x.indisreplident, i.relname,
           x.indisvalid AND x.indimmediate AS usable,
           x.indisunique AND x.indpred IS NULL AND x.indexprs IS NULL
           AND NOT EXISTS (
               SELECT FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
               JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
               WHERE k.position <= x.indnkeyatts AND NOT a.attnotnull
           ) AS unique_and_not_null,
           array(SELECT a.attname::text
                 FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
                 JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
                 WHERE k.position <= x.indnkeyatts
                 ORDER BY k.position) AS columns
    FROM pg_index x
    JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = ANY (%(tables)s)
)
SELECT n.nspname, c.relname, c.relreplident::text, pk.relname, coalesce(NOT pk.usable, false), coalesce(pk.columns, '{}'),
       array(SELECT x.relname::text FROM indexes x
             WHERE x.indrelid = c.oid AND x.usable AND x.unique_and_not_null AND NOT x.indisprimary
             ORDER BY cardinality(x.columns), x.relname)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN indexes pk ON pk.indrelid = c.oid AND pk.indisprimary
WHERE c.oid = ANY (%(tables)s) AND c.relkind = 'r'
  AND CASE c.relreplident
      WHEN 'd' THEN NOT coalesce(pk.usable, false)
      WHEN 'n' THEN true
      WHEN 'i' THEN NOT EXISTS (SELECT FROM indexes x WHERE x.indrelid = c.oid AND x.indisreplident AND x.usable)
      ELSE false
  END
ORDER BY 1, 2
