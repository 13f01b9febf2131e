-- name: read_parts
SELECT table_schema, table_name, part, strategy, lower, upper, estimated_bytes, cycle, done,
       coalesce(rows, 0), coalesce(bytes, 0)
FROM carveout.copy_part
WHERE context = %s
ORDER BY table_schema, table_name, part

-- name: add_part
INSERT INTO carveout.copy_part
    (context, table_schema, table_name, part, strategy, lower, upper, estimated_bytes, cycle)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 0)

-- name: end_leftovers
SELECT count(pg_terminate_backend(pid))
FROM pg_stat_activity
WHERE application_name = %s AND datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()

-- name: next_cycle
SELECT coalesce(max(cycle), 0) + 1 FROM carveout.copy_part WHERE context = %s

-- name: fence_parts
UPDATE carveout.copy_part SET cycle = %(cycle)s WHERE context = %(context)s AND NOT done

-- name: restart_tables
UPDATE carveout.copy_part AS p
SET cycle = %(cycle)s, done = false, rows = NULL, bytes = NULL, started_at = NULL, finished_at = NULL
WHERE p.context = %(context)s AND p.strategy = 'ctid' AND p.done AND EXISTS (
    SELECT FROM carveout.copy_part AS o
    WHERE o.context = p.context AND o.table_schema = p.table_schema AND o.table_name = p.table_name AND NOT o.done)

-- name: finish_part
UPDATE carveout.copy_part
SET done = true, rows = %(rows)s, bytes = %(bytes)s, started_at = now(), finished_at = clock_timestamp()
WHERE context = %(context)s AND table_schema = %(schema)s AND table_name = %(name)s AND part = %(part)s
  AND cycle = %(cycle)s AND NOT done

-- name: coverage
SELECT p.table_schema, p.table_name, p.strategy, count(*) FILTER (WHERE p.done), count(*),
       EXISTS (SELECT FROM carveout.copy_key k
               WHERE k.context = p.context AND k.table_schema = p.table_schema AND k.table_name = p.table_name)
FROM carveout.copy_part p
WHERE p.context = %s
GROUP BY p.context, p.table_schema, p.table_name, p.strategy

-- name: keyed_tables
SELECT DISTINCT table_schema, table_name FROM carveout.copy_key WHERE context = %s

-- name: take_keys
SELECT key FROM carveout.copy_key
WHERE context = %s AND table_schema = %s AND table_name = %s
ORDER BY key LIMIT 500
FOR UPDATE

-- name: forget_key
DELETE FROM carveout.copy_key WHERE context = %s AND table_schema = %s AND table_name = %s AND key = %s

-- name: forget_keys
DELETE FROM carveout.copy_key WHERE context = %s AND table_schema = %s AND table_name = %s

-- name: forget_parts
DELETE FROM carveout.copy_part
WHERE context = %(context)s
  AND (%(schema)s::text IS NULL OR (table_schema = %(schema)s AND table_name = %(name)s))
