-- name: facts
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'postgres_fdw'),
       w.oid IS NOT NULL,
       coalesce(has_foreign_data_wrapper_privilege(w.oid, 'USAGE'), false),
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
       has_database_privilege(current_database(), 'CREATE'),
       ARRAY(SELECT n.nspname::text FROM pg_namespace n
             WHERE n.nspname = ANY (%(schemas)s::text[]) AND NOT has_schema_privilege(n.oid, 'CREATE')),
       ARRAY(SELECT c.oid::regclass::text FROM pg_class c
             WHERE c.oid = ANY (%(tables)s::oid[]) AND NOT pg_has_role(c.relowner, 'USAGE')),
       EXISTS (SELECT FROM pg_foreign_server WHERE srvname = %(server)s),
       ARRAY(SELECT n.nspname::text FROM pg_namespace n WHERE n.nspname = ANY (%(new_schemas)s::text[])),
       current_user::text, current_database()::text
FROM (VALUES (1)) one LEFT JOIN pg_foreign_data_wrapper w ON w.fdwname = 'postgres_fdw'

-- name: service_facts
SELECT has_database_privilege(current_database(), 'CREATE'), current_database()::text, current_user::text

-- name: defaults
SELECT a.attname::text,
       CASE WHEN a.attidentity = 'd'
            THEN format('nextval(%%L::regclass)',
                        pg_get_serial_sequence(format('%%I.%%I', n.nspname, c.relname), a.attname))
            ELSE pg_get_expr(d.adbin, d.adrelid) END,
       a.attidentity = 'd' OR EXISTS (
           SELECT FROM pg_depend x
           WHERE x.classid = 'pg_attrdef'::regclass AND x.objid = d.oid AND x.deptype = 'n'
             AND (x.refclassid = 'pg_proc'::regclass
                  OR x.refclassid = 'pg_class'::regclass AND x.refobjid <> d.adrelid))
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
  AND (a.attidentity = 'd' OR d.oid IS NOT NULL)
ORDER BY a.attnum

-- name: roles
SELECT rolname::text, pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = ANY (%s::text[]) ORDER BY rolname

-- name: foreign_table
CREATE FOREIGN TABLE {table} ({columns}) SERVER {server} OPTIONS (schema_name {schema}, table_name {name})

-- name: default_function
CREATE FUNCTION {name}() RETURNS {type} LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp RETURN CAST({expression} AS {type})

-- name: fill_function
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS {body}

-- name: fill_column
IF NEW.{column} IS NULL THEN SELECT value INTO NEW.{column} FROM {source}; END IF;

-- name: fill_trigger
CREATE TRIGGER carveout_defaults BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()
