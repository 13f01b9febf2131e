-- name: forget
DELETE FROM carveout.verification_suite WHERE verification = %s

-- name: add
INSERT INTO carveout.verification_suite
    (verification, name, table_schema, table_name, text, sides, may_be_empty, milliseconds, lsn, barrier_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: add_expectation
INSERT INTO carveout.verification_expectation
    (verification, suite, number, type, arguments, severity, description, outcomes)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)

-- name: read
SELECT s.name, s.table_schema, s.table_name, s.text, s.sides, s.may_be_empty, s.milliseconds, s.lsn::text, s.barrier_at,
       e.type, e.arguments, e.severity, e.description, e.outcomes
FROM carveout.verification_suite s
LEFT JOIN carveout.verification_expectation e ON e.verification = s.verification AND e.suite = s.name
WHERE s.verification = %s
ORDER BY s.name COLLATE "C", e.number
