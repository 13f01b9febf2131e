-- name: holders
-- Roles with rights of their own on the tables, their columns or sequences, and the tables' owners. An owner that cannot
-- log in writes nothing itself.
WITH moved AS (
    SELECT c.oid, c.relowner, c.relacl
    FROM pg_class c
    WHERE c.oid = ANY (%(tables)s::oid[])
), sequences AS (
    SELECT s.relowner, s.relacl
    FROM pg_depend d
    JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE d.classid = 'pg_class'::regclass AND d.refobjid IN (SELECT oid FROM moved) AND d.deptype IN ('a', 'i')
), given AS (
    SELECT x.grantee, x.privilege_type FROM moved, aclexplode(moved.relacl) AS x WHERE x.grantee <> moved.relowner
    UNION ALL
    SELECT x.grantee, x.privilege_type FROM sequences, aclexplode(sequences.relacl) AS x WHERE x.grantee <> relowner
    UNION ALL
    SELECT x.grantee, x.privilege_type
    FROM pg_attribute a, aclexplode(a.attacl) AS x
    WHERE a.attrelid IN (SELECT oid FROM moved) AND NOT a.attisdropped
    UNION ALL
    SELECT moved.relowner, CASE WHEN o.rolcanlogin THEN 'INSERT' ELSE 'SELECT' END FROM moved JOIN pg_roles o ON o.oid = relowner
)
SELECT coalesce(r.rolname::text, 'PUBLIC'), bool_or(g.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'))
FROM given g
LEFT JOIN pg_roles r ON r.oid = g.grantee
WHERE g.grantee = 0 OR NOT r.rolsuper AND r.rolname <> current_user AND r.rolname NOT LIKE 'pg\_%%'
GROUP BY 1
ORDER BY 1

-- name: members
-- Who is a member of a role that holds rights, however far away: each with the role that it was granted.
WITH RECURSIVE below AS (
    SELECT m.roleid, m.member FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid AND r.rolname = ANY (%(roles)s)
    UNION
    SELECT m.roleid, m.member FROM pg_auth_members m JOIN below ON below.member = m.roleid
)
SELECT r.rolname::text, m.rolname::text
FROM below
JOIN pg_roles r ON r.oid = below.roleid
JOIN pg_roles m ON m.oid = below.member AND NOT m.rolsuper AND m.rolname <> current_user
WHERE r.rolname NOT LIKE 'pg\_%%'
ORDER BY 1, 2

-- name: used
-- Roles whose statements name a table; {schema} is where pg_stat_statements is.
SELECT r.rolname::text, bool_or(s.query ~* '^\s*(insert|update|delete|truncate|merge)\M')
FROM {schema}.pg_stat_statements s
JOIN pg_roles r ON r.oid = s.userid AND NOT r.rolsuper AND r.rolname <> current_user
JOIN pg_class c ON c.oid = ANY (%(tables)s::oid[])
WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND s.query ~* '^\s*(select|insert|update|delete|truncate|with|merge|copy)\M'
  AND s.query ~ ('\m' || regexp_replace(c.relname, '(\W)', '\\\1', 'g') || '\M')
GROUP BY 1

-- name: attributes
SELECT rolname::text, rolcanlogin, rolbypassrls, rolinherit FROM pg_roles WHERE rolname = ANY (%(roles)s)

-- name: rights
-- What the roles may do here, by themselves or through what they inherit. A sequence goes by the column that it fills,
-- since its own name may differ between the sides.
WITH roles AS (
    SELECT oid, rolname::text AS name FROM pg_roles WHERE rolname = ANY (%(roles)s)
    UNION ALL
    SELECT 0, 'PUBLIC' WHERE 'PUBLIC' = ANY (%(roles)s)
), moved AS (
    SELECT c.oid, n.oid AS schema_oid, n.nspname::text AS schema, c.relname::text AS name
    FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w (schema, name)
    JOIN pg_namespace n ON n.nspname = w.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')
), sequences AS (
    SELECT DISTINCT m.schema, m.name, a.attname::text AS column_name, s.oid
    FROM moved m
    JOIN pg_attribute a ON a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef f ON f.adrelid = m.oid AND f.adnum = a.attnum
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                        AND d.refobjid = m.oid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')
                     OR d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
    JOIN pg_class s ON s.relkind = 'S'
                    AND s.oid = CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid ELSE d.refobjid END
), functions AS (
    -- Defaults, checks and policies call them with the rights of who writes; a trigger's function needs none.
    SELECT DISTINCT p.oid, n.nspname::text AS schema, p.proname::text || '(' || pg_get_function_identity_arguments(p.oid) || ')'
               AS name
    FROM moved m
    JOIN LATERAL (
        SELECT 'pg_attrdef'::regclass::oid AS classid, oid FROM pg_attrdef WHERE adrelid = m.oid
        UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE conrelid = m.oid AND contype = 'c'
        UNION ALL SELECT 'pg_policy'::regclass, oid FROM pg_policy WHERE polrelid = m.oid
    ) o ON true
    JOIN pg_depend d ON d.classid = o.classid AND d.objid = o.oid AND d.refclassid = 'pg_proc'::regclass
    JOIN pg_proc p ON p.oid = d.refobjid
    JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname <> 'pg_catalog'
)
SELECT r.name, 'database', '', '', '', 'CONNECT'
FROM roles r WHERE has_database_privilege(r.oid, current_database(), 'CONNECT')
UNION ALL
SELECT DISTINCT r.name, 'schema', '', m.schema, '', 'USAGE'
FROM roles r, moved m WHERE has_schema_privilege(r.oid, m.schema_oid, 'USAGE')
UNION ALL
SELECT r.name, 'table', m.schema, m.name, '', p
FROM roles r, moved m, unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS p
WHERE has_table_privilege(r.oid, m.oid, p)
UNION ALL
SELECT r.name, 'column', m.schema, m.name, a.attname::text, p
FROM roles r
CROSS JOIN moved m
CROSS JOIN unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) AS p
JOIN pg_attribute a ON a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE has_column_privilege(r.oid, m.oid, a.attnum, p)
UNION ALL
SELECT r.name, 'sequence', s.schema, s.name, s.column_name, p
FROM roles r, sequences s, unnest('{USAGE,SELECT,UPDATE}'::text[]) AS p
WHERE has_sequence_privilege(r.oid, s.oid, p)
UNION ALL
SELECT r.name, 'function', f.schema, f.name, '', 'EXECUTE'
FROM roles r, functions f WHERE has_function_privilege(r.oid, f.oid, 'EXECUTE')

-- name: functions_here
SELECT DISTINCT n.nspname::text, p.proname::text || '(' || pg_get_function_identity_arguments(p.oid) || ')'
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname::text = ANY (%(schemas)s)

-- name: row_security
SELECT bool_or(relrowsecurity) FROM pg_class WHERE oid = ANY (%(tables)s::oid[])

-- name: memberships
SELECT g.rolname::text, m.rolname::text
FROM pg_roles g, pg_roles m
WHERE g.rolname = ANY (%(roles)s) AND m.rolname = ANY (%(members)s) AND pg_has_role(m.oid, g.oid, 'MEMBER')

-- name: default_privileges
SELECT pg_get_userbyid(d.defaclrole)::text, coalesce(n.nspname::text, ''), d.defaclobjtype::text,
       coalesce(r.rolname::text, 'PUBLIC'), x.privilege_type
FROM pg_default_acl d
LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
CROSS JOIN LATERAL aclexplode(d.defaclacl) AS x
LEFT JOIN pg_roles r ON r.oid = x.grantee
WHERE d.defaclobjtype IN ('r', 'S') AND (n.oid IS NULL OR n.nspname::text = ANY (%(schemas)s))
  AND x.grantee <> d.defaclrole AND (r.oid IS NOT NULL OR x.grantee = 0)
ORDER BY 1, 2, 3, 4, 5

-- name: owners
SELECT n.nspname::text, c.relname::text, pg_get_userbyid(c.relowner)::text
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%(tables)s::oid[])
