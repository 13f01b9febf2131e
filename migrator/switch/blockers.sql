-- name: blockers
-- Who keeps a fence's lock (SHARE ROW EXCLUSIVE) from the tables: holders, and those that queue before us for more.
-- Locks no table itself, and reads no sizes: either would queue, too. A prepared transaction keeps the virtual id of its
-- session until the server is started again; its lock on its own transaction id tells which one it is.
WITH RECURSIVE moved AS (
    SELECT to_regclass(name)::oid AS oid FROM unnest(%(tables)s::text[]) AS name
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN moved ON i.inhparent = moved.oid
)
SELECT l.pid, p.gid,
       coalesce(a.usename, a.backend_type, p.owner, '?') AS role,
       coalesce(nullif(a.application_name, ''), '-') AS application,
       CASE WHEN p.gid IS NOT NULL THEN 'prepared transaction'
            WHEN a.backend_type = 'autovacuum worker' AND a.query LIKE '%%(to prevent wraparound)%%'
            THEN 'autovacuum against wraparound'
            WHEN a.backend_type = 'autovacuum worker' THEN 'autovacuum'
            ELSE coalesce(a.state, '-') END AS what,
       coalesce(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared)), 0)::float8 AS transaction_s,
       extract(epoch FROM clock_timestamp() - a.query_start)::float8 AS query_s,
       CASE WHEN bool_or(l.granted) THEN '{}' ELSE pg_blocking_pids(l.pid) END AS waits_for
FROM pg_locks l
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_locks own ON l.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
    AND own.virtualtransaction = l.virtualtransaction
LEFT JOIN pg_prepared_xacts p ON p.transaction = own.transactionid
WHERE l.locktype = 'relation' AND l.relation IN (SELECT oid FROM moved)
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
  AND l.pid IS DISTINCT FROM pg_backend_pid()
GROUP BY l.pid, p.gid, p.owner, p.prepared, a.usename, a.backend_type, a.application_name, a.state, a.query,
         a.xact_start, a.query_start
ORDER BY transaction_s DESC;

-- name: sessions
-- The sessions of these server processes.
SELECT a.pid, NULL AS gid, coalesce(a.usename, a.backend_type, '?') AS role,
       coalesce(nullif(a.application_name, ''), '-') AS application, coalesce(a.state, '-') AS what,
       coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8 AS transaction_s,
       extract(epoch FROM clock_timestamp() - a.query_start)::float8 AS query_s, '{}'::int[] AS waits_for
FROM pg_stat_activity a WHERE a.pid = ANY (%(pids)s::int[])
ORDER BY transaction_s DESC;

-- name: terminate
SELECT pg_terminate_backend(%(pid)s);
