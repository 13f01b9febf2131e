-- name: is_referenced
SELECT EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = %s::oid AND conrelid <> confrelid)

-- name: droppable_key
SELECT con.conname, pg_get_constraintdef(con.oid)
FROM pg_constraint con
JOIN pg_index i ON i.indexrelid = con.conindid
JOIN pg_class c ON c.oid = con.conindid
WHERE con.conrelid = %s::oid AND con.contype = 'p' AND con.conparentid = 0
  -- Only what the constraint's definition brings back whole.
  AND NOT i.indisreplident AND NOT i.indisclustered AND c.reltablespace = 0 AND c.reloptions IS NULL
  AND obj_description(con.oid, 'pg_constraint') IS NULL AND obj_description(con.conindid, 'pg_class') IS NULL
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'n' AND d.refobjid IN (con.oid, con.conindid))

-- name: store_key
INSERT INTO carveout.copy_primary_key (context, table_schema, table_name, constraint_name, definition)
VALUES (%s, %s, %s, %s, %s)

-- name: dropped_keys
SELECT k.table_schema, k.table_name
FROM carveout.copy_primary_key k
WHERE k.context = %s AND NOT EXISTS (
    SELECT FROM carveout.copy_part p
    WHERE p.context = k.context AND p.table_schema = k.table_schema AND p.table_name = k.table_name AND NOT p.done)
ORDER BY 1, 2

-- name: forget_dropped_key
DELETE FROM carveout.copy_primary_key WHERE context = %s AND table_schema = %s AND table_name = %s
RETURNING constraint_name, definition
