-- name: root
-- The table under which a partition is declared; no row where it is no partition.
SELECT n.nspname, r.relname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = pg_catalog.pg_partition_root(c.oid)
JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE s.nspname = $1 AND c.relname = $2 AND c.relispartition
