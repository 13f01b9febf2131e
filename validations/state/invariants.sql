-- name: forget
DELETE FROM carveout.verification_invariant WHERE verification = %s

-- name: add
INSERT INTO carveout.verification_invariant
    (verification, name, kind, severity, sides, proves, key, sql, lsn, barrier_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: add_side
INSERT INTO carveout.verification_invariant_side
    (verification, name, side, error, rows, violations, number, milliseconds)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)

-- name: read
SELECT i.name, i.proves, i.sql, i.severity, i.sides, i.kind, i.key, i.lsn::text, i.barrier_at,
       s.side, s.error, s.rows, s.violations, s.number, s.milliseconds
FROM carveout.verification_invariant i
LEFT JOIN carveout.verification_invariant_side s USING (verification, name)
WHERE i.verification = %s
ORDER BY i.name COLLATE "C", s.side = 'service'
