-- name: add
INSERT INTO carveout.sample (context, at, phase, lag_s, lag_bytes, rows_per_s)
VALUES (%(context)s, clock_timestamp(), %(phase)s, %(lag_s)s, %(lag_bytes)s, %(rows_per_s)s)

-- name: count
SELECT count(*) FROM carveout.sample WHERE context = %s

-- name: thin
-- The older half, merged by neighbouring pairs of one phase: the worst lag and the mean rate stay.
WITH numbered AS (
    SELECT id, at, phase, lag_s, lag_bytes, rows_per_s, row_number() OVER (ORDER BY at, id) - 1 AS place,
           count(*) OVER () AS total
    FROM carveout.sample WHERE context = %(context)s
), pairs AS (
    SELECT min(at) AS at, phase, max(lag_s) AS lag_s, max(lag_bytes) AS lag_bytes, avg(rows_per_s) AS rows_per_s,
           array_agg(id) AS ids
    FROM numbered WHERE place < total / 2 GROUP BY place / 2, phase
), gone AS (
    DELETE FROM carveout.sample WHERE id IN (SELECT unnest(ids) FROM pairs)
)
INSERT INTO carveout.sample (context, at, phase, lag_s, lag_bytes, rows_per_s)
SELECT %(context)s, at, phase, lag_s, lag_bytes, rows_per_s FROM pairs

-- name: read
SELECT at, phase, lag_s, lag_bytes, rows_per_s FROM carveout.sample WHERE context = %s ORDER BY at, id
