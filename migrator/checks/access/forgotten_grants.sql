-- name: granted
-- Grants on tables and on single columns alike; an owner's rights over its own table are no grant.
-- MAINTAIN is about upkeep, not about rows, so a context has no word for it.
WITH acl (relation, owner, entries) AS (
    SELECT oid, relowner, relacl FROM pg_class WHERE oid = ANY (%(tables)s) AND relacl IS NOT NULL
    UNION ALL
    SELECT c.oid, c.relowner, a.attacl
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.oid = ANY (%(tables)s) AND a.attacl IS NOT NULL AND NOT a.attisdropped
)
SELECT coalesce(r.rolname, 'PUBLIC'), ARRAY[n.nspname, c.relname]::text[], ARRAY[rn.nspname, root.relname]::text[],
       array_agg(DISTINCT x.privilege_type)
FROM acl
CROSS JOIN LATERAL aclexplode(acl.entries) AS x
JOIN pg_class c ON c.oid = acl.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class root ON root.oid = coalesce(pg_partition_root(c.oid), c.oid)
JOIN pg_namespace rn ON rn.oid = root.relnamespace
LEFT JOIN pg_roles r ON r.oid = x.grantee
WHERE x.grantee <> acl.owner AND r.rolname IS DISTINCT FROM current_user AND x.privilege_type <> 'MAINTAIN'
GROUP BY 1, 2, 3
ORDER BY 2, 1

-- name: login_owners
SELECT r.rolname, array_agg(c.oid::regclass::text ORDER BY c.oid::regclass::text)
FROM pg_class c
JOIN pg_roles r ON r.oid = c.relowner
WHERE c.oid = ANY (%(tables)s) AND r.rolcanlogin AND NOT r.rolsuper
  AND r.rolname <> current_user AND r.rolname <> ALL (%(declared)s::text[])
GROUP BY r.rolname
ORDER BY r.rolname
