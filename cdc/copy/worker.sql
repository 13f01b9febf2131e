-- name: rewritten
SELECT n.nspname, c.relname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN unnest(%s::text[], %s::text[]) AS w (schema, name) ON n.nspname = w.schema AND c.relname = w.name
WHERE c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)
