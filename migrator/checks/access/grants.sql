-- name: roles
SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname = ANY (%s)

-- name: cannot_connect
SELECT rolname FROM pg_roles
WHERE rolname = ANY (%s) AND NOT has_database_privilege(oid, current_database(), 'CONNECT')
ORDER BY rolname

-- name: schemas_without_usage
SELECT DISTINCT w.role, n.nspname
FROM unnest(%(roles)s::text[], %(schemas)s::text[]) AS w (role, schema)
JOIN pg_roles r ON r.rolname = w.role
JOIN pg_namespace n ON n.nspname = w.schema
WHERE NOT has_schema_privilege(r.oid, n.oid, 'USAGE')
ORDER BY 1, 2

-- name: missing_on_tables
SELECT w.role, n.nspname, c.relname, array_agg(w.privilege ORDER BY w.privilege)
FROM unnest(%(roles)s::text[], %(schemas)s::text[], %(names)s::text[], %(privileges)s::text[])
     AS w (role, schema, name, privilege)
JOIN pg_roles r ON r.rolname = w.role
JOIN pg_namespace n ON n.nspname = w.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')
WHERE NOT has_table_privilege(r.oid, c.oid, w.privilege)
GROUP BY w.role, n.nspname, c.relname
ORDER BY 1, 2, 3

-- name: granted_by_column
SELECT w.role, n.nspname, c.relname, w.privilege, array_agg(a.attname::text ORDER BY a.attnum)
FROM unnest(%(roles)s::text[], %(schemas)s::text[], %(names)s::text[], %(privileges)s::text[])
     AS w (role, schema, name, privilege)
JOIN pg_roles r ON r.rolname = w.role
JOIN pg_namespace n ON n.nspname = w.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE w.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
  AND NOT has_table_privilege(r.oid, c.oid, w.privilege)
  AND CASE WHEN w.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
      THEN has_column_privilege(r.oid, c.oid, a.attnum, w.privilege) END
GROUP BY w.role, n.nspname, c.relname, w.privilege
ORDER BY 1, 2, 3, 4

-- name: missing_on_columns
SELECT array(
    SELECT a.attname::text
    FROM (VALUES (%s::text, %s::text)) AS w (role, privilege)
    JOIN pg_roles r ON r.rolname = w.role
    JOIN pg_class c ON c.oid = to_regclass(format('%%I.%%I', %s::text, %s::text))
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = ANY (%s)
    WHERE NOT has_column_privilege(r.oid, c.oid, a.attnum, w.privilege)
    ORDER BY a.attnum
)

-- name: sequences_without_usage
-- Identity columns need no right of the role that inserts; serial columns do.
SELECT DISTINCT w.role, sn.nspname, s.relname
FROM unnest(%(roles)s::text[], %(schemas)s::text[], %(names)s::text[], %(privileges)s::text[])
     AS w (role, schema, name, privilege)
JOIN pg_roles r ON r.rolname = w.role
JOIN pg_namespace n ON n.nspname = w.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
JOIN pg_attrdef f ON f.adrelid = c.oid
JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
JOIN pg_namespace sn ON sn.oid = s.relnamespace
WHERE w.privilege = 'INSERT'
  AND CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(r.oid, s.oid, 'USAGE') END
ORDER BY 1, 2, 3

-- name: owners_without_usage
SELECT DISTINCT r.rolname, n.nspname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles r ON r.oid = c.relowner
WHERE c.oid = ANY (%s) AND NOT has_schema_privilege(r.oid, n.oid, 'USAGE')
ORDER BY 1, 2
