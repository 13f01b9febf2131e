-- name: columns
-- The type is written with "no modifier" given, so that char and bit do not come out as char(1) and bit(1).
SELECT a.attname, format_type(a.atttypid, -1),
       a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' OR t.typdefault IS NOT NULL
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped

-- name: unique_keys
-- Unique indexes that hold for every row at once, with the equality operator of each column's operator class.
SELECT array_agg(a.attname::text ORDER BY k.position),
       array_agg(n.nspname::text ORDER BY k.position),
       array_agg(o.oprname::text ORDER BY k.position)
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_am am ON am.oid = i.relam AND am.amname = 'btree'
CROSS JOIN LATERAL unnest(x.indkey::int2[], x.indclass::oid[]) WITH ORDINALITY AS k (attnum, opclass, position)
JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
JOIN pg_opclass c ON c.oid = k.opclass
JOIN pg_amop equal ON equal.amopfamily = c.opcfamily AND equal.amopstrategy = 3
                  AND equal.amoplefttype = c.opcintype AND equal.amoprighttype = c.opcintype
JOIN pg_operator o ON o.oid = equal.amopopr
JOIN pg_namespace n ON n.oid = o.oprnamespace
WHERE x.indrelid = $1 AND x.indisunique AND x.indisvalid AND x.indimmediate
  AND x.indpred IS NULL AND x.indexprs IS NULL
GROUP BY x.indexrelid
