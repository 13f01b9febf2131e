-- name: sees_others
SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')

-- name: blocking
-- Only a transaction with an id counts as running for logical decoding, whatever its database.
SELECT pid, usename, datname, application_name, state,
       round(extract(epoch FROM clock_timestamp() - CASE WHEN state = 'active' THEN xact_start ELSE state_change END))::int
FROM pg_stat_activity
WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() AND application_name NOT LIKE 'carveout/%%'
  AND (xact_start < clock_timestamp() - make_interval(secs => %(long)s)
       OR state LIKE 'idle in transaction%%' AND state_change < clock_timestamp() - make_interval(secs => %(idle)s))
ORDER BY xact_start
