-- name: parents_that_stay
SELECT ARRAY[cn.nspname, c.relname]::text[], ARRAY[pn.nspname, p.relname]::text[]
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
JOIN pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_class p ON p.oid = i.inhparent AND p.relkind = 'p'
JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE c.oid = ANY (%(tables)s) AND p.oid <> ALL (%(tables)s)
ORDER BY 1

-- name: foreign_leaves
SELECT ARRAY[cn.nspname, c.relname]::text[], ARRAY[pn.nspname, p.relname]::text[]
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind = 'f'
JOIN pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_class p ON p.oid = i.inhparent AND p.relkind = 'p'
JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE p.oid = ANY (%(tables)s)
ORDER BY 1

-- name: half_detached
SELECT ARRAY[cn.nspname, c.relname]::text[], ARRAY[pn.nspname, p.relname]::text[]
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
JOIN pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_class p ON p.oid = i.inhparent
JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE i.inhdetachpending AND p.oid = ANY (%(tables)s)
ORDER BY 1
