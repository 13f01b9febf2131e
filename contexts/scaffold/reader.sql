-- name: needed
-- What the tables stand on, as edges of pg_depend: an object of an extension leads to the extension only, a
-- relation never leads to another relation (a table that is needed by a moved table is a cut, not a need).
WITH RECURSIVE walk (classid, objid, refclassid, refobjid) AS (
    SELECT 0::oid, 0::oid, root.classid, root.objid
    FROM (
        SELECT 'pg_class'::regclass::oid, unnest(%(tables)s::oid[])
        UNION ALL
        SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid = ANY (%(tables)s::oid[])
        UNION ALL
        SELECT 'pg_attrdef'::regclass, oid FROM pg_attrdef WHERE adrelid = ANY (%(tables)s::oid[])
        UNION ALL
        SELECT 'pg_constraint'::regclass, oid FROM pg_constraint
        WHERE conrelid = ANY (%(tables)s::oid[]) AND contype IN ('c', 'p', 'u', 'x')
        UNION ALL
        SELECT 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext WHERE stxrelid = ANY (%(tables)s::oid[])
        UNION ALL
        SELECT 'pg_class'::regclass, d.objid
        FROM pg_depend d
        JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
          AND d.refobjid = ANY (%(tables)s::oid[]) AND d.deptype IN ('a', 'i')
    ) root (classid, objid)
    UNION
    SELECT walk.refclassid, walk.refobjid, edge.classid, edge.objid
    FROM walk
    CROSS JOIN LATERAL (
        SELECT d.refclassid, d.refobjid
        FROM pg_depend d
        LEFT JOIN pg_class relation ON d.refclassid = 'pg_class'::regclass AND relation.oid = d.refobjid
        LEFT JOIN pg_class composite ON d.classid = 'pg_class'::regclass AND composite.oid = d.objid
        WHERE d.classid = walk.refclassid AND d.objid = walk.refobjid
          AND (relation.oid IS NULL OR relation.relkind IN ('S', 'c'))
          AND NOT (composite.relkind IS NOT DISTINCT FROM 'c' AND d.deptype = 'i')
          AND (d.deptype = 'e' OR NOT EXISTS (
              SELECT FROM pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e'))
        UNION ALL
        SELECT 'pg_class'::regclass, t.typrelid
        FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
        WHERE walk.refclassid = 'pg_type'::regclass AND t.oid = walk.refobjid
        UNION ALL
        SELECT 'pg_constraint'::regclass, c.oid
        FROM pg_constraint c
        WHERE walk.refclassid = 'pg_type'::regclass AND c.contypid = walk.refobjid AND c.contype = 'c'
    ) edge (classid, objid)
)
SELECT walk.classid::regclass::text, walk.objid::int8, walk.refclassid::regclass::text, walk.refobjid::int8,
       EXISTS (SELECT FROM pg_depend e WHERE e.classid = walk.refclassid AND e.objid = walk.refobjid
                                         AND e.deptype = 'e'),
       (pg_identify_object(walk.refclassid, walk.refobjid, 0)).identity
FROM walk
ORDER BY 3, 6, 4, 1, 2

-- name: extensions
SELECT quote_ident(e.extname), quote_ident(n.nspname)
FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.oid = ANY (%(oids)s::oid[]) AND e.extname <> 'plpgsql'
ORDER BY e.oid

-- name: schemas
-- Schemas that an extension makes come with it; pg_catalog and public are always there.
SELECT DISTINCT quote_ident(n.nspname)
FROM pg_namespace n
WHERE n.nspname NOT IN ('pg_catalog', 'public')
  AND (n.oid = ANY (%(oids)s::oid[])
       OR n.oid IN (SELECT extnamespace FROM pg_extension WHERE oid = ANY (%(extensions)s::oid[])))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid
                                            AND d.deptype = 'e')
ORDER BY 1

-- name: collations
-- to_jsonb: the columns' names differ between major versions.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.collname),
       '(' || concat_ws(', ',
           'provider = ' || CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
           'locale = ' || quote_literal(coalesce(j.row ->> 'colllocale', j.row ->> 'colliculocale')),
           'lc_collate = ' || quote_literal(c.collcollate),
           'lc_ctype = ' || quote_literal(c.collctype),
           'rules = ' || quote_literal(j.row ->> 'collicurules'),
           CASE WHEN NOT c.collisdeterministic THEN 'deterministic = false' END) || ')'
FROM pg_collation c
JOIN pg_namespace n ON n.oid = c.collnamespace
CROSS JOIN LATERAL (SELECT to_jsonb(c) AS row) j
WHERE c.oid = ANY (%(oids)s::oid[]) AND n.nspname <> 'pg_catalog'
ORDER BY 1

-- name: types
SELECT t.oid::int8, quote_ident(n.nspname) || '.' || quote_ident(t.typname), t.typtype = 'd',
       CASE t.typtype
           WHEN 'e' THEN (
               SELECT 'AS ENUM (' || coalesce(string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder), '')
                      || ')'
               FROM pg_enum e WHERE e.enumtypid = t.oid)
           WHEN 'd' THEN concat_ws(' ',
               'AS ' || format_type(t.typbasetype, t.typtypmod),
               'COLLATE ' || CASE WHEN t.typcollation <> b.typcollation
                                  THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END,
               'DEFAULT ' || pg_get_expr(t.typdefaultbin, 0),
               CASE WHEN t.typnotnull THEN 'NOT NULL' END)
           WHEN 'c' THEN (
               SELECT 'AS (' || string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                   'COLLATE ' || CASE WHEN a.attcollation <> at.typcollation
                                      THEN quote_ident(acn.nspname) || '.' || quote_ident(aco.collname) END),
                   ', ' ORDER BY a.attnum) || ')'
               FROM pg_attribute a
               JOIN pg_type at ON at.oid = a.atttypid
               LEFT JOIN pg_collation aco ON aco.oid = a.attcollation
               LEFT JOIN pg_namespace acn ON acn.oid = aco.collnamespace
               WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
           WHEN 'r' THEN 'AS RANGE (' || concat_ws(', ',
               'subtype = ' || format_type(r.rngsubtype, NULL),
               'subtype_opclass = ' || (SELECT quote_ident(opn.nspname) || '.' || quote_ident(opc.opcname)
                                        FROM pg_opclass opc JOIN pg_namespace opn ON opn.oid = opc.opcnamespace
                                        WHERE opc.oid = r.rngsubopc),
               'collation = ' || (SELECT quote_ident(rn.nspname) || '.' || quote_ident(rc.collname)
                                  FROM pg_collation rc JOIN pg_namespace rn ON rn.oid = rc.collnamespace
                                  WHERE rc.oid = r.rngcollation),
               'subtype_diff = ' || nullif(r.rngsubdiff, 0)::regproc::text,
               'multirange_type_name = ' || (SELECT quote_ident(mn.nspname) || '.' || quote_ident(m.typname)
                                             FROM pg_type m JOIN pg_namespace mn ON mn.oid = m.typnamespace
                                             WHERE m.oid = r.rngmultitypid)) || ')'
       END,
       coalesce(obj_description(t.oid, 'pg_type'), ''),
       (SELECT coalesce(jsonb_agg(jsonb_build_array(quote_ident(c.conname), pg_get_constraintdef(c.oid), c.convalidated)
                                  ORDER BY c.conname), '[]')
        FROM pg_constraint c WHERE c.contypid = t.oid AND c.contype = 'c')
FROM pg_type t
JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_class class ON class.oid = t.typrelid
LEFT JOIN pg_type b ON b.oid = t.typbasetype
LEFT JOIN pg_range r ON r.rngtypid = t.oid
LEFT JOIN pg_collation co ON co.oid = t.typcollation
LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
WHERE t.oid = ANY (%(oids)s::oid[]) AND (t.typtype IN ('e', 'd', 'r') OR class.relkind = 'c')

-- name: functions
SELECT p.oid::int8, p.oid::regprocedure::text, pg_get_functiondef(p.oid)
FROM pg_proc p
WHERE p.oid = ANY (%(oids)s::oid[]) AND p.prokind IN ('f', 'p', 'w')

-- name: sequences
-- Only what is not the default is named, so a plain sequence has no options at all.
WITH option AS (
    SELECT s.seqrelid, concat_ws(' ',
        CASE WHEN s.seqtypid <> 'int8'::regtype AND d.deptype IS DISTINCT FROM 'i'
             THEN 'AS ' || format_type(s.seqtypid, NULL) END,
        CASE WHEN s.seqincrement <> 1 THEN 'INCREMENT BY ' || s.seqincrement END,
        CASE WHEN s.seqmin <> CASE WHEN s.seqincrement > 0 THEN 1 ELSE limits.low END
             THEN 'MINVALUE ' || s.seqmin END,
        CASE WHEN s.seqmax <> CASE WHEN s.seqincrement > 0 THEN limits.high ELSE -1 END
             THEN 'MAXVALUE ' || s.seqmax END,
        CASE WHEN s.seqstart <> CASE WHEN s.seqincrement > 0 THEN s.seqmin ELSE s.seqmax END
             THEN 'START WITH ' || s.seqstart END,
        CASE WHEN s.seqcache <> 1 THEN 'CACHE ' || s.seqcache END,
        CASE WHEN s.seqcycle THEN 'CYCLE' END) AS options,
        d.refobjid AS owner, d.refobjsubid AS owner_column, d.deptype
    FROM pg_sequence s
    JOIN (VALUES ('int2'::regtype, -32768, 32767),
                 ('int4', -2147483648, 2147483647),
                 ('int8', -9223372036854775808, 9223372036854775807)) limits (type, low, high)
      ON limits.type = s.seqtypid
    LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid
                         AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    WHERE s.seqrelid = ANY (%(oids)s::oid[])
)
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), option.options,
       option.deptype IS NOT DISTINCT FROM 'i', option.owner::int8, option.owner_column,
       CASE WHEN t.oid = ANY (%(tables)s::oid[])
            THEN quote_ident(tn.nspname) || '.' || quote_ident(t.relname) || '.' || quote_ident(a.attname)
            ELSE '' END,
       coalesce(n.nspname = tn.nspname AND c.relname = t.relname || '_' || a.attname || '_seq', false),
       coalesce(obj_description(c.oid, 'pg_class'), '')
FROM option
JOIN pg_class c ON c.oid = option.seqrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class t ON t.oid = option.owner
LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = option.owner AND a.attnum = option.owner_column
ORDER BY 1

-- name: tables
SELECT c.oid::int8, n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname),
       CASE WHEN c.relispartition AND parent.oid = ANY (%(tables)s::oid[])
            THEN quote_ident(pn.nspname) || '.' || quote_ident(parent.relname) ELSE '' END,
       CASE WHEN c.relispartition AND parent.oid = ANY (%(tables)s::oid[])
            THEN pg_get_expr(c.relpartbound, c.oid) ELSE '' END,
       coalesce(pg_get_partkeydef(c.oid), ''),
       c.relreplident::text,
       CASE WHEN c.relreplident = 'i' THEN coalesce((
           SELECT quote_ident(ic.relname) FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
           WHERE i.indrelid = c.oid AND i.indisreplident), '') ELSE '' END,
       coalesce(c.reloptions, '{}')
           || ARRAY(SELECT 'toast.' || o FROM pg_class toast, unnest(toast.reloptions) o
                    WHERE toast.oid = c.reltoastrelid),
       coalesce(obj_description(c.oid, 'pg_class'), '')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
LEFT JOIN pg_class parent ON parent.oid = i.inhparent
LEFT JOIN pg_namespace pn ON pn.oid = parent.relnamespace
WHERE c.oid = ANY (%(tables)s::oid[]) AND c.relkind IN ('r', 'p')
ORDER BY (SELECT count(*) FROM pg_partition_ancestors(c.oid) WHERE c.relispartition), n.nspname, c.relname

-- name: columns
-- PostgreSQL 18 knows NOT NULL constraints that are not validated: such a column can hold NULLs, so it counts as one.
SELECT a.attrelid::int8, a.attnum, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
       CASE WHEN a.attcollation <> t.typcollation
            THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) ELSE '' END,
       a.attnotnull AND NOT EXISTS (
           SELECT FROM pg_constraint nn
           WHERE nn.conrelid = a.attrelid AND nn.contype = 'n' AND nn.conkey = ARRAY[a.attnum] AND NOT nn.convalidated),
       coalesce(pg_get_expr(d.adbin, d.adrelid), ''),
       a.attgenerated::text,
       CASE WHEN c.relispartition AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid
                                                AND i.inhparent = ANY (%(tables)s::oid[]))
            THEN '' ELSE a.attidentity::text END,
       '',
       CASE WHEN a.attstorage = t.typstorage THEN ''
            ELSE CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN'
                                   ELSE 'EXTENDED' END END,
       CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' ELSE '' END,
       nullif(a.attstattarget, -1),
       coalesce(a.attoptions, '{}'),
       coalesce(col_description(a.attrelid, a.attnum), '')
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation co ON co.oid = a.attcollation
LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
WHERE a.attrelid = ANY (%(tables)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum

-- name: constraints
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(con.conname), con.contype::text,
       pg_get_constraintdef(con.oid),
       coalesce(quote_ident(n.nspname) || '.' || quote_ident(ic.relname), ''), coalesce(ic.reloptions, '{}'),
       coalesce(obj_description(con.oid, 'pg_constraint'), ''),
       con.conparentid <> 0 OR con.coninhcount > 0,
       coalesce(x.indisreplident, false)
FROM pg_constraint con
JOIN pg_class c ON c.oid = con.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index x ON x.indexrelid = con.conindid AND con.contype IN ('p', 'u', 'x')
LEFT JOIN pg_class ic ON ic.oid = x.indexrelid
WHERE con.conrelid = ANY (%(tables)s::oid[])
  AND (con.contype IN ('p', 'u', 'x', 'c') OR con.contype = 'f' AND con.confrelid = ANY (%(tables)s::oid[]))
ORDER BY n.nspname, c.relname, con.contype = 'f', array_position(ARRAY['p', 'u', 'x', 'c'], con.contype::text),
         con.conname

-- name: indexes
-- The definition of a partitioned index says ON ONLY; ours shall make, or adopt, those of the partitions.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname),
       quote_ident(n.nspname) || '.' || quote_ident(ic.relname),
       CASE ic.relkind WHEN 'I' THEN replace(pg_get_indexdef(x.indexrelid), format('INDEX %%I ON ONLY ', ic.relname),
                                             format('INDEX %%I ON ', ic.relname))
                       ELSE pg_get_indexdef(x.indexrelid) END,
       coalesce(obj_description(ic.oid, 'pg_class'), ''),
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = ic.oid),
       x.indisreplident
FROM pg_index x
JOIN pg_class ic ON ic.oid = x.indexrelid
JOIN pg_class c ON c.oid = x.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE x.indrelid = ANY (%(tables)s::oid[]) AND x.indisvalid
  AND NOT EXISTS (SELECT FROM pg_constraint con WHERE con.conindid = x.indexrelid AND con.contype IN ('p', 'u', 'x'))
ORDER BY n.nspname, c.relname, ic.relname

-- name: statistics
SELECT quote_ident(n.nspname) || '.' || quote_ident(s.stxname), pg_get_statisticsobjdef(s.oid),
       coalesce(obj_description(s.oid, 'pg_statistic_ext'), '')
FROM pg_statistic_ext s
JOIN pg_namespace n ON n.oid = s.stxnamespace
WHERE s.stxrelid = ANY (%(tables)s::oid[])
ORDER BY 1

-- name: cut_references
SELECT con.conname, n.nspname, c.relname, rn.nspname, r.relname,
       ARRAY(SELECT a.attname::text FROM unnest(con.conkey) WITH ORDINALITY AS k (attnum, position)
             JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.attnum ORDER BY k.position),
       ARRAY(SELECT a.attname::text FROM unnest(con.confkey) WITH ORDINALITY AS k (attnum, position)
             JOIN pg_attribute a ON a.attrelid = con.confrelid AND a.attnum = k.attnum ORDER BY k.position)
FROM pg_constraint con
JOIN pg_class c ON c.oid = con.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = con.confrelid
JOIN pg_namespace rn ON rn.oid = r.relnamespace
WHERE con.contype = 'f' AND con.conrelid = ANY (%(tables)s::oid[]) AND con.confrelid <> ALL (%(tables)s::oid[])
  AND con.conparentid = 0
ORDER BY n.nspname, c.relname, con.conname
