-- name: record
INSERT INTO carveout.rule_violation (context, epoch, rule, kind, policy, table_schema, table_name, xid, commit_lsn,
                                     committed_at, violations, keys, applied_at)
VALUES (%(context)s, %(epoch)s, %(rule)s, %(kind)s, %(policy)s, %(schema)s, %(table)s, %(xid)s, %(lsn)s,
        %(committed_at)s, %(violations)s, %(keys)s, CASE WHEN %(applied)s THEN clock_timestamp() END)
ON CONFLICT (context, epoch, commit_lsn, rule) DO UPDATE
SET violations = excluded.violations, keys = excluded.keys, policy = excluded.policy,
    applied_at = coalesce(carveout.rule_violation.applied_at, excluded.applied_at)
RETURNING id

-- name: accepted
SELECT commit_lsn::text, rule FROM carveout.rule_violation
WHERE context = %s AND epoch = %s AND accepted_at IS NOT NULL AND applied_at IS NULL

-- name: accept
UPDATE carveout.rule_violation SET accepted_at = clock_timestamp(), accepted_by = session_user, reason = %s
WHERE id = %s AND context = %s AND accepted_at IS NULL

-- name: read
SELECT id, epoch, rule, kind, policy, table_schema, table_name, xid, commit_lsn::text, committed_at, violations, keys,
       applied_at, accepted_at, accepted_by, reason
FROM carveout.rule_violation WHERE context = %s
ORDER BY epoch, commit_lsn, id

-- name: count
SELECT coalesce(sum(violations), 0)::int8 FROM carveout.rule_violation WHERE context = %s
