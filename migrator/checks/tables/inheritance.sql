-- name: children
SELECT ARRAY[cn.nspname, c.relname]::text[], ARRAY[pn.nspname, p.relname]::text[]
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
JOIN pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_class p ON p.oid = i.inhparent AND p.relkind <> 'p'
JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE (c.oid = ANY (%(tables)s) OR p.oid = ANY (%(tables)s)) AND c.relkind IN ('r', 'p', 'f')
ORDER BY 1
