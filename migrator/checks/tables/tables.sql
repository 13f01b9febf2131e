-- name: kinds
SELECT n.nspname, c.relname, c.relkind::text
FROM unnest(%s::text[], %s::text[]) AS w (schema, name)
JOIN pg_namespace n ON n.nspname = w.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name

-- name: not_logged
SELECT n.nspname, c.relname, c.relpersistence::text
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s) AND c.relpersistence <> 'p'
ORDER BY 1, 2

-- name: alike
SELECT n.nspname, c.relname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE lower(c.relname) = lower(%s) AND c.relkind IN ('r', 'p')
ORDER BY 1, 2
LIMIT 5
