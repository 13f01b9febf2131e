-- name: is_running
SELECT FROM pg_locks l
WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid::int8 = hashtext('carveout.verification')::int8 & 4294967295
  AND l.objid::int8 = hashtext(%s)::int8 & 4294967295

-- name: unfinished
SELECT v.id FROM carveout.verification v
WHERE v.context = %(context)s AND v.kind = 'full' AND v.finished_at IS NULL
  AND v.open_side = %(open_side)s AND v.schema_fingerprint = %(fingerprint)s
  AND ARRAY(SELECT t.table_schema || ' ' || t.table_name FROM carveout.verification_table t
            WHERE t.verification = v.id ORDER BY 1) = %(tables)s::text[]
  AND NOT EXISTS (SELECT FROM carveout.verification_table t WHERE t.verification = v.id AND t.problem <> '')
ORDER BY v.id DESC LIMIT 1

-- name: supersede
UPDATE carveout.verification SET finished_at = clock_timestamp(), verdict = 'incomplete'
WHERE context = %s AND kind = %s AND finished_at IS NULL

-- name: begin
INSERT INTO carveout.verification (context, kind, open_side, schema_fingerprint) VALUES (%s, %s, %s, %s) RETURNING id

-- name: add_table
INSERT INTO carveout.verification_table (verification, table_schema, table_name, method, problem)
VALUES (%s, %s, %s, %s, %s)

-- name: add_segment
INSERT INTO carveout.verification_segment (verification, table_schema, table_name, segment, extent)
VALUES (%s, %s, %s, %s, %s)

-- name: pending
SELECT table_schema, table_name, segment, extent FROM carveout.verification_segment
WHERE verification = %s AND barrier_at IS NULL
ORDER BY table_schema, table_name, segment

-- name: add_differences
COPY carveout.verification_difference (verification, table_schema, table_name, segment, key, kind, columns, count,
                                       open_values, closed_values) FROM STDIN

-- name: segment_done
UPDATE carveout.verification_segment
SET lsn = %s, barrier_at = %s, rows_open = %s, rows_closed = %s,
    missing_on_closed = %s, missing_on_open = %s, different = %s
WHERE verification = %s AND table_schema = %s AND table_name = %s AND segment = %s AND barrier_at IS NULL

-- name: verification
SELECT v.kind, v.open_side, v.started_at, v.finished_at, v.schema_fingerprint, s.oldest, s.first::text, s.last::text
FROM carveout.verification v
CROSS JOIN LATERAL (
    SELECT min(barrier_at) AS oldest, min(lsn) AS first, max(lsn) AS last
    FROM carveout.verification_segment WHERE verification = v.id
) s
WHERE v.id = %s AND v.context = %s

-- name: tables
SELECT t.table_schema, t.table_name, t.method, t.problem, count(s.segment), count(s.barrier_at),
       coalesce(sum(s.rows_open), 0)::int8, coalesce(sum(s.rows_closed), 0)::int8,
       coalesce(sum(s.missing_on_closed), 0)::int8, coalesce(sum(s.missing_on_open), 0)::int8,
       coalesce(sum(s.different), 0)::int8
FROM carveout.verification_table t
LEFT JOIN carveout.verification_segment s USING (verification, table_schema, table_name)
WHERE t.verification = %s
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2

-- name: finish
UPDATE carveout.verification
SET finished_at = clock_timestamp(), verdict = %s, rows = %s, differences = %s, lsn_first = %s, lsn_last = %s
WHERE id = %s

-- name: differences
SELECT table_schema, table_name, key, kind, columns, count, open_values, closed_values
FROM carveout.verification_difference WHERE verification = %s

-- name: latest
SELECT id FROM carveout.verification
WHERE context = %s AND kind = ANY (%s) AND (finished_at IS NOT NULL OR NOT %s)
ORDER BY id DESC LIMIT 1

-- name: found_since
SELECT coalesce(sum(s.missing_on_closed + s.missing_on_open + s.different), 0)::int8
FROM carveout.verification v JOIN carveout.verification_segment s ON s.verification = v.id
WHERE v.context = %s AND v.id > %s
