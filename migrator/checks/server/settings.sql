-- name: settings
SELECT name, current_setting(name), context
FROM pg_catalog.pg_settings
WHERE name = ANY (%s) AND source NOT IN ('user', 'database user', 'client', 'session')
