-- name: sizes
SELECT coalesce(sum(pg_table_size(oid)), 0)::int8, coalesce(sum(pg_indexes_size(oid)), 0)::int8
FROM pg_class
WHERE oid = ANY (%s) AND relkind = 'r'
