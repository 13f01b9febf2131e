-- name: rules
SELECT ARRAY[n.nspname, c.relname]::text[], r.rulename, r.ev_enabled::text
FROM pg_rewrite r
JOIN pg_class c ON c.oid = r.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s)
ORDER BY 1, 2
