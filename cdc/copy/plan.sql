-- name: sizes
SELECT c.oid::int8, pg_relation_size(c.oid) / current_setting('block_size')::int8,
       ARRAY(SELECT n.nspname FROM pg_partition_ancestors(c.oid) WITH ORDINALITY AS a (oid, depth)
             JOIN pg_class p ON p.oid = a.oid JOIN pg_namespace n ON n.oid = p.relnamespace ORDER BY a.depth),
       ARRAY(SELECT p.relname FROM pg_partition_ancestors(c.oid) WITH ORDINALITY AS a (oid, depth)
             JOIN pg_class p ON p.oid = a.oid ORDER BY a.depth)
FROM pg_class c
WHERE c.oid = ANY (%s::oid[])

-- name: immediate_keys
SELECT indrelid::int8 FROM pg_index WHERE indisprimary AND indimmediate AND indrelid = ANY (%s::oid[])

-- name: key_bounds
SELECT DISTINCT ON (bucket) {names}
FROM (SELECT {texts}, ntile(%(buckets)s) OVER w AS bucket, row_number() OVER w AS position
      FROM ONLY {table} TABLESAMPLE SYSTEM (%(percent)s)
      WINDOW w AS (ORDER BY {key})) AS sample
ORDER BY bucket, position
