-- name: promises
-- What the schema promises of each table beside its types: keys with the names of their columns, and checks as text.
-- Checks that mention the whole row are left out: outside their table they have no meaning.
SELECT n.nspname, c.relname, k.contype::text, k.conname,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (attnum, place)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum ORDER BY u.place),
       coalesce(pg_get_expr(k.conbin, k.conrelid), '')
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.conrelid = ANY (%s) AND k.convalidated AND k.contype IN ('p', 'u', 'c') AND NOT 0 = ANY (k.conkey)
ORDER BY n.nspname, c.relname, k.contype = 'c', k.contype, k.conname COLLATE "C"
