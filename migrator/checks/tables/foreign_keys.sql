-- name: cut
-- Of a partitioned table's foreign key only the one that was declared, not its copies on the partitions.
SELECT k.conname, ARRAY[tn.nspname, t.relname]::text[],
       array(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (attnum, position)
             JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = u.attnum ORDER BY u.position),
       ARRAY[rn.nspname, r.relname]::text[],
       array(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (attnum, position)
             JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = u.attnum ORDER BY u.position),
       t.oid = ANY (%(tables)s), k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd')
FROM pg_constraint k
JOIN pg_class t ON t.oid = k.conrelid
JOIN pg_namespace tn ON tn.oid = t.relnamespace
JOIN pg_class r ON r.oid = k.confrelid
JOIN pg_namespace rn ON rn.oid = r.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0
  AND (t.oid = ANY (%(tables)s)) <> (r.oid = ANY (%(tables)s))
ORDER BY 2, 1
