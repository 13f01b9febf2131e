-- name: used
-- From the tables, their indexes, defaults, constraints and triggers to the types, functions, operator classes and
-- languages under them, at any depth.
WITH RECURSIVE own (relation, class, object) AS (
    SELECT oid, 'pg_class'::regclass::oid, oid FROM pg_class WHERE oid = ANY (%(tables)s)
    UNION ALL
    SELECT indrelid, 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid = ANY (%(tables)s)
    UNION ALL
    SELECT adrelid, 'pg_attrdef'::regclass, oid FROM pg_attrdef WHERE adrelid = ANY (%(tables)s)
    UNION ALL
    SELECT conrelid, 'pg_constraint'::regclass, oid FROM pg_constraint WHERE conrelid = ANY (%(tables)s)
    UNION ALL
    SELECT tgrelid, 'pg_trigger'::regclass, oid FROM pg_trigger
    WHERE tgrelid = ANY (%(tables)s) AND NOT tgisinternal
), used AS (
    SELECT relation, class, object FROM own
    UNION
    SELECT used.relation, d.refclassid, d.refobjid
    FROM used
    JOIN pg_depend d ON d.classid = used.class AND d.objid = used.object
    WHERE d.deptype <> 'e' AND d.refclassid <> ALL ('{pg_class,pg_namespace,pg_extension}'::regclass[])
)
SELECT e.extname, e.extversion, n.nspname, array_agg(DISTINCT used.relation::regclass::text)
FROM used
JOIN pg_depend d ON d.classid = used.class AND d.objid = used.object AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
JOIN pg_namespace n ON n.oid = e.extnamespace
GROUP BY e.extname, e.extversion, n.nspname
ORDER BY e.extname

-- name: offered
SELECT name, default_version, installed_version FROM pg_available_extensions WHERE name = ANY (%s)
