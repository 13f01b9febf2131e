-- name: begin
INSERT INTO carveout.repair (context, epoch, open_side) VALUES (%s, %s, %s) RETURNING id

-- name: add_keys
COPY carveout.repair_key (repair, table_schema, table_name, key) FROM STDIN

-- name: unfinished
SELECT id FROM carveout.repair WHERE context = %s AND epoch = %s AND finished_at IS NULL ORDER BY id DESC LIMIT 1

-- name: abandon
UPDATE carveout.repair SET finished_at = clock_timestamp() WHERE context = %s AND epoch <> %s AND finished_at IS NULL

-- name: next
WITH first AS (
    SELECT table_schema, table_name FROM carveout.repair_key
    WHERE repair = %(repair)s AND done_at IS NULL ORDER BY table_schema, table_name LIMIT 1
)
SELECT table_schema, table_name, key FROM carveout.repair_key JOIN first USING (table_schema, table_name)
WHERE repair = %(repair)s AND done_at IS NULL
ORDER BY key LIMIT %(limit)s

-- name: begun
UPDATE carveout.repair_key k
SET kind = coalesce(w.kind, k.kind), lsn = CASE WHEN w.kind IS NULL AND k.kind IS NOT NULL THEN k.lsn ELSE %(lsn)s END,
    made_by = session_user, begun_at = clock_timestamp()
FROM jsonb_to_recordset(%(keys)s) AS w (key text[], kind text)
WHERE k.repair = %(repair)s AND k.table_schema = %(schema)s AND k.table_name = %(table)s AND k.key = w.key

-- name: done
UPDATE carveout.repair_key SET done_at = clock_timestamp()
WHERE repair = %(repair)s AND table_schema = %(schema)s AND table_name = %(table)s
  AND key IN (SELECT w.key FROM jsonb_to_recordset(%(keys)s) AS w (key text[]))

-- name: counts
SELECT count(*), count(done_at), count(*) FILTER (WHERE done_at IS NOT NULL AND kind = 'missing_on_closed'),
       count(*) FILTER (WHERE done_at IS NOT NULL AND kind = 'missing_on_open'),
       count(*) FILTER (WHERE done_at IS NOT NULL AND kind = 'different'),
       min(lsn)::text, max(lsn)::text
FROM carveout.repair_key WHERE repair = %s

-- name: tables
SELECT DISTINCT table_schema, table_name FROM carveout.repair_key WHERE repair = %s ORDER BY 1, 2

-- name: keys
SELECT key FROM carveout.repair_key WHERE repair = %s AND table_schema = %s AND table_name = %s

-- name: finish
UPDATE carveout.repair SET finished_at = clock_timestamp(), compared_again = %s WHERE id = %s
