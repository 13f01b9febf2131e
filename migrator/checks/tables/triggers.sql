-- name: triggers
-- Without those that enforce constraints, those that partitions have from their root, and our own write locks.
SELECT ARRAY[n.nspname, c.relname]::text[], t.tgname, t.tgenabled::text, t.tgfoid::regprocedure::text,
       pg_get_triggerdef(t.oid)
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s) AND NOT t.tgisinternal AND t.tgparentid = 0 AND NOT t.tgfoid::regprocedure::text LIKE 'carveout.%%'
ORDER BY 1, 2
