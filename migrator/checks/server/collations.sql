-- name: default_14
SELECT 'c', datcollate, datctype, NULL, NULL
FROM pg_database
WHERE datname = current_database()

-- name: default_15
-- The column of the ICU or builtin locale has had two names.
SELECT datlocprovider::text, coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', datcollate),
       datctype, pg_database_collation_actual_version(oid), datcollversion
FROM pg_database d
WHERE datname = current_database()

-- name: text_keys
SELECT count(*)
FROM pg_index i
WHERE i.indrelid = ANY (%s) AND i.indisunique
  AND EXISTS (SELECT FROM unnest(i.indcollation::oid[]) AS c (oid) WHERE c.oid <> 0)

-- name: collations
SELECT n.nspname || '.' || c.collname, n.nspname, c.collname, c.collprovider::text,
       coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale', c.collcollate),
       c.collisdeterministic, pg_collation_actual_version(c.oid)
FROM pg_collation c
JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE n.nspname || '.' || c.collname = ANY (%s)
  AND c.collencoding IN (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))
