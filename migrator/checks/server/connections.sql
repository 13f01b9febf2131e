-- name: limits
WITH reserved AS (
    SELECT sum(setting::int) AS connections
    FROM pg_settings
    WHERE name IN ('superuser_reserved_connections', 'reserved_connections')
), sessions AS (
    SELECT count(*) AS all, count(*) FILTER (WHERE datid = d.oid) AS here,
           count(*) FILTER (WHERE usename = current_user) AS ours
    FROM pg_stat_activity, pg_database d
    WHERE datid IS NOT NULL AND d.datname = current_database()
)
SELECT 'server', '', current_setting('max_connections')::int - reserved.connections::int, sessions.all
FROM reserved, sessions
UNION ALL
SELECT 'database', d.datname, d.datconnlimit, sessions.here
FROM pg_database d, sessions
WHERE d.datname = current_database() AND d.datconnlimit >= 0
UNION ALL
SELECT 'role', r.rolname, r.rolconnlimit, sessions.ours
FROM pg_roles r, sessions
WHERE r.rolname = current_user AND r.rolconnlimit >= 0 AND NOT r.rolsuper
