-- name: not_carried
-- Everything that belongs to the tables and that generated revisions leave behind, or that stays behind pointing at them.
WITH moved AS (
    SELECT c.*, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS shown
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (%(tables)s::oid[])
)
SELECT 'trigger', shown, quote_ident(t.tgname),
       'runs ' || t.tgfoid::regprocedure || ': write the function and the trigger in a revision, or drop them'
FROM moved JOIN pg_trigger t ON t.tgrelid = moved.oid
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgname NOT LIKE 'carveout%%'
UNION ALL
SELECT 'rule', shown, quote_ident(r.rulename), 'rewrites statements: write it in a revision, or drop it'
FROM moved JOIN pg_rewrite r ON r.ev_class = moved.oid WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT DISTINCT CASE v.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, shown,
       quote_ident(vn.nspname) || '.' || quote_ident(v.relname), 'reads the table and stays in the shared database'
FROM moved
JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = moved.oid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> moved.oid
JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
JOIN pg_namespace vn ON vn.oid = v.relnamespace
UNION ALL
SELECT 'policy', shown, quote_ident(p.polname), 'row security: write it in a revision'
FROM moved JOIN pg_policy p ON p.polrelid = moved.oid
UNION ALL
SELECT 'row security', shown, '', 'is enabled on the table: enable it in a revision'
FROM moved WHERE moved.relrowsecurity OR moved.relforcerowsecurity
UNION ALL
SELECT 'inheritance', shown, i.inhparent::regclass::text, 'the table inherits from this one outside partitioning'
FROM moved JOIN pg_inherits i ON i.inhrelid = moved.oid WHERE NOT moved.relispartition
UNION ALL
SELECT 'inheritance', shown, i.inhrelid::regclass::text, 'inherits from the table outside partitioning'
FROM moved JOIN pg_inherits i ON i.inhparent = moved.oid AND moved.relkind = 'r'
UNION ALL
SELECT 'partition', shown, i.inhparent::regclass::text, 'the table is a partition of this one, which stays'
FROM moved JOIN pg_inherits i ON i.inhrelid = moved.oid
WHERE moved.relispartition AND i.inhparent <> ALL (%(tables)s::oid[])
UNION ALL
SELECT 'foreign table', p.inhparent::regclass::text, p.inhrelid::regclass::text, 'is a partition on another server'
FROM moved JOIN pg_inherits p ON p.inhparent = moved.oid
JOIN pg_class f ON f.oid = p.inhrelid AND f.relkind = 'f'
UNION ALL
SELECT 'unlogged', shown, '', 'its changes are in no stream; the generated table is an ordinary one'
FROM moved WHERE moved.relpersistence = 'u'
UNION ALL
SELECT 'typed table', shown, moved.reloftype::regtype::text, 'the generated table has the same columns without the type'
FROM moved WHERE moved.reloftype <> 0
UNION ALL
SELECT 'tablespace', shown, quote_ident(s.spcname), 'the generated table is in the default tablespace'
FROM moved JOIN pg_tablespace s ON s.oid = moved.reltablespace
UNION ALL
SELECT 'access method', shown, quote_ident(a.amname), 'the generated table uses the default method'
FROM moved JOIN pg_am a ON a.oid = moved.relam WHERE a.amname <> 'heap'
UNION ALL
SELECT 'invalid index', shown, x.indexrelid::regclass::text, 'was never finished: drop or rebuild it'
FROM moved JOIN pg_index x ON x.indrelid = moved.oid WHERE NOT x.indisvalid AND moved.relkind = 'r'
UNION ALL
SELECT 'not null', shown, quote_ident(nn.conname), 'is not validated, so rows may hold NULL: validate it first'
FROM moved JOIN pg_constraint nn ON nn.conrelid = moved.oid AND nn.contype = 'n' AND NOT nn.convalidated
UNION ALL
SELECT 'foreign key', shown, quote_ident(con.conname),
       'references ' || con.confrelid::regclass || ', which stays: declare it under [[references]]'
FROM moved JOIN pg_constraint con ON con.conrelid = moved.oid AND con.contype = 'f' AND con.conparentid = 0
WHERE con.confrelid <> ALL (%(tables)s::oid[])
UNION ALL
SELECT 'foreign key', shown, quote_ident(con.conname),
       'of ' || con.conrelid::regclass || ', which stays, references the table: declare it in that table''s context'
FROM moved JOIN pg_constraint con ON con.confrelid = moved.oid AND con.contype = 'f' AND con.conparentid = 0
WHERE con.conrelid <> ALL (%(tables)s::oid[])
UNION ALL
SELECT 'sequence', shown, s.oid::regclass::text,
       'is used here and by ' || other.adrelid::regclass || ', which stays: each side will count on its own'
FROM moved
JOIN pg_attrdef own ON own.adrelid = moved.oid
JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = own.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
JOIN pg_depend od ON od.classid = 'pg_attrdef'::regclass AND od.refclassid = 'pg_class'::regclass AND od.refobjid = s.oid
JOIN pg_attrdef other ON other.oid = od.objid AND other.adrelid <> ALL (%(tables)s::oid[])
UNION ALL
SELECT DISTINCT 'function', shown, p.oid::regprocedure::text, 'names the table or its row type and stays'
FROM moved
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass
    AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = moved.oid
         OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (
             SELECT t.oid FROM pg_type t WHERE t.oid = moved.reltype
             UNION ALL SELECT t.typarray FROM pg_type t WHERE t.oid = moved.reltype))
JOIN pg_proc p ON p.oid = d.objid
UNION ALL
SELECT 'publication', shown, quote_ident(p.pubname), 'publishes the table to another subscriber'
FROM moved JOIN pg_publication_rel pr ON pr.prrelid = moved.oid
JOIN pg_publication p ON p.oid = pr.prpubid AND p.pubname NOT LIKE 'carveout%%'
UNION ALL
SELECT 'security label', shown, l.provider, 'write it in a revision'
FROM moved JOIN pg_seclabel l ON l.classoid = 'pg_class'::regclass AND l.objoid = moved.oid
ORDER BY 2, 1, 3
