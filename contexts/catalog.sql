-- name: tables
WITH RECURSIVE wanted AS (
    SELECT c.oid
    FROM unnest(%s::text[], %s::text[]) AS w (schema, name)
    JOIN pg_namespace n ON n.nspname = w.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')
    UNION
    SELECT i.inhrelid
    FROM wanted
    JOIN pg_class parent ON parent.oid = wanted.oid AND parent.relkind = 'p'
    JOIN pg_inherits i ON i.inhparent = wanted.oid
)
SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text, c.relreplident::text, pg_get_userbyid(c.relowner),
       coalesce(pk.columns, '{}'), coalesce(identity.columns, '{}'),
       CASE WHEN c.relkind = 'p' THEN 0 ELSE pg_table_size(c.oid) END,
       c.reltuples::int8
FROM wanted
JOIN pg_class c ON c.oid = wanted.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY k.position) AS columns
    FROM pg_index x
    CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
    WHERE x.indrelid = c.oid AND x.indisprimary AND k.position <= x.indnkeyatts
) pk ON true
LEFT JOIN LATERAL (
    SELECT CASE c.relreplident
        WHEN 'd' THEN pk.columns
        WHEN 'f' THEN (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
                       WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
        WHEN 'i' THEN (SELECT array_agg(a.attname::text ORDER BY k.position)
                       FROM pg_index x
                       CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
                       JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                       WHERE x.indrelid = c.oid AND x.indisreplident AND k.position <= x.indnkeyatts)
    END AS columns
) identity ON true
ORDER BY n.nspname, c.relname

-- name: columns
WITH RECURSIVE base (root, oid, typmod, is_required) AS (
    SELECT DISTINCT a.atttypid, a.atttypid, -1, false FROM pg_attribute a WHERE a.attrelid = ANY (%s)
    UNION ALL
    SELECT base.root, t.typbasetype, t.typtypmod, base.is_required OR t.typnotnull FROM base JOIN pg_type t ON t.oid = base.oid WHERE t.typtype = 'd'
)
SELECT a.attrelid::int8, a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid::int8, a.atttypmod,
       b.oid::int8, format_type(b.oid, NULL), b.typtype::text,
       CASE WHEN b.typcategory = 'A' THEN b.typelem::int8 ELSE 0 END,
       a.attnotnull, a.attidentity::text, a.attgenerated::text,
       coalesce(cn.nspname || '.' || co.collname, ''), coalesce(co.collisdeterministic, true),
       CASE WHEN base.oid = a.atttypid THEN a.atttypmod ELSE base.typmod END, base.is_required
FROM pg_attribute a
JOIN base ON base.root = a.atttypid
JOIN pg_type b ON b.oid = base.oid AND b.typtype <> 'd'
LEFT JOIN pg_collation co ON co.oid = a.attcollation
LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
