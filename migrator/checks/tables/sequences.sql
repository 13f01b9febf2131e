-- name: sequences
-- A sequence is used by the defaults that depend on it, and owned through an auto (serial) or internal (identity)
-- dependency of its own.
WITH uses AS (
    SELECT d.refobjid AS sequence, f.adrelid AS relation, f.adnum AS attnum
    FROM pg_attrdef f
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
    JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
), owners AS (
    SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS attnum
    FROM pg_depend d
    JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
), links AS (
    SELECT sequence, relation, attnum FROM uses
    UNION
    SELECT sequence, relation, attnum FROM owners
), moved AS (
    -- One column of each sequence is enough to name it: its owner where that moves.
    SELECT DISTINCT ON (l.sequence) l.sequence, l.relation, l.attnum
    FROM links l
    LEFT JOIN owners o ON o.sequence = l.sequence AND o.relation = l.relation AND o.attnum = l.attnum
    WHERE l.relation = ANY (%(tables)s)
    ORDER BY l.sequence, o.relation IS NULL, l.relation, l.attnum
), bounds AS (
    SELECT m.*, a.attname, a.atttypid = 'int8'::regtype AS is_bigint, s.seqincrement AS step, s.seqcycle,
           s.seqstart, has_sequence_privilege(m.sequence, 'SELECT') AS readable,
           greatest(s.seqmin, CASE a.atttypid WHEN 'int2'::regtype THEN -32768 WHEN 'int4'::regtype THEN -2147483648
                              ELSE s.seqmin END)::numeric AS lowest,
           least(s.seqmax, CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647
                           ELSE s.seqmax END)::numeric AS highest
    FROM moved m
    JOIN pg_sequence s ON s.seqrelid = m.sequence
    JOIN pg_attribute a ON a.attrelid = m.relation AND a.attnum = m.attnum
), last AS (
    SELECT b.*, coalesce(CASE WHEN b.readable THEN pg_sequence_last_value(b.sequence) END, b.seqstart)::numeric AS last
    FROM bounds b
)
SELECT ARRAY[sn.nspname, s.relname]::text[], CASE WHEN o.relation IS NULL THEN NULL ELSE ARRAY[own.nspname, oc.relname]::text[] END,
       ARRAY[tn.nspname, t.relname]::text[], l.attname, l.is_bigint, l.seqcycle, l.readable,
       trunc((l.highest - l.lowest) / abs(l.step))::int8,
       trunc(CASE WHEN l.step > 0 THEN l.highest - l.last ELSE l.last - l.lowest END / abs(l.step))::int8,
       array(SELECT DISTINCT format('%%s.%%s', x.relation::regclass, xa.attname)
             FROM links x
             JOIN pg_attribute xa ON xa.attrelid = x.relation AND xa.attnum = x.attnum
             WHERE x.sequence = l.sequence AND x.relation <> ALL (%(tables)s)
             ORDER BY 1)
FROM last l
JOIN pg_class s ON s.oid = l.sequence
JOIN pg_namespace sn ON sn.oid = s.relnamespace
JOIN pg_class t ON t.oid = l.relation
JOIN pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN owners o ON o.sequence = l.sequence
LEFT JOIN pg_class oc ON oc.oid = o.relation
LEFT JOIN pg_namespace own ON own.oid = oc.relnamespace
ORDER BY 1
